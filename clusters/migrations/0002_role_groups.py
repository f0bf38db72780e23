"""Make the groups that give a role; their names are fixed in :mod:`clusters.access`."""

from django.db import migrations

ROLE_GROUPS = ("operators", "auditors")


def make_groups(apps, schema_editor):
    group = apps.get_model("auth", "Group")
    for name in ROLE_GROUPS:
        group.objects.using(schema_editor.connection.alias).get_or_create(name=name)


class Migration(migrations.Migration):
    dependencies = [("clusters", "0001_initial"), ("auth", "0012_alter_user_first_name_max_length")]

    # Backwards keeps the groups: they may have members.
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
