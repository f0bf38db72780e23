"""Every retention class gets a limit of the history: 730 days, or the longest of its tiers."""

from django.db import migrations


def add(apps, schema_editor):
    """Write the limit into the classes that have none."""
    classes = apps.get_model("metrics", "RetentionClass").objects
    for row in classes.using(schema_editor.connection.alias).all():
        if "history" not in row.limits:
            tiers = [days for kind in row.limits.values() for days in kind.values()]
            row.limits["history"] = {"days": max([730, *tiers])}
            row.save(update_fields=["limits"])


def remove(apps, schema_editor):
    """Take the limit out again."""
    classes = apps.get_model("metrics", "RetentionClass").objects
    for row in classes.using(schema_editor.connection.alias).all():
        row.limits.pop("history", None)
        row.save(update_fields=["limits"])


class Migration(migrations.Migration):

    dependencies = [
        ('metrics', '0009_refused_values'),
    ]

    operations = [
        migrations.RunPython(add, remove, elidable=True),
    ]
