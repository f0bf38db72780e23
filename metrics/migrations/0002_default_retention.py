"""Make the default retention class: minutes for 7 days, 10 minutes for 90, hours for 2 years."""

from django.db import migrations


def make_default(apps, schema_editor):
    """Make the class unless a default is there."""
    retention_class = apps.get_model("metrics", "RetentionClass")
    if not retention_class.objects.filter(is_default=True).exists():
        retention_class.objects.create(name="Standard", is_default=True)


class Migration(migrations.Migration):
    """Data only."""

    dependencies = [("metrics", "0001_initial")]

    operations = [migrations.RunPython(make_default, migrations.RunPython.noop)]
