from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('clusters', '0007_node_absence'),
    ]

    operations = [
        migrations.AddField(
            model_name='tunnelsession',
            name='folded',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='tunnelsession',
            name='folded_until',
            field=models.DateTimeField(null=True),
        ),
    ]
