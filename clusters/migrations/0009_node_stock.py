from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('clusters', '0008_folded_sessions'),
    ]

    operations = [
        migrations.AddField(
            model_name='clusterstatus',
            name='stock',
            field=models.JSONField(null=True),
        ),
    ]
