"""What ``manage.py up`` needs to start, watch and stop the processes."""
