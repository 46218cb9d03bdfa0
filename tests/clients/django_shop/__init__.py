"""A Django application, as `manage.py startapp` lays one out."""
