from django.db import migrations, models


def begin_where_last_seen(apps, schema_editor):
    """Let what is absent stay so; the next newest minute says which are present."""
    nodes = apps.get_model("clusters", "ClusterNode").objects
    nodes.using(schema_editor.connection.alias).update(absent_since=models.F("last_seen_at"))


class Migration(migrations.Migration):

    dependencies = [
        ('clusters', '0006_history'),
    ]

    operations = [
        migrations.AddField(
            model_name='clusternode',
            name='absent_since',
            field=models.DateTimeField(null=True),
        ),
        migrations.RunPython(begin_where_last_seen, migrations.RunPython.noop),
    ]
