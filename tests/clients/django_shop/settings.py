"""Settings of the project: the database is the server whose port DATABASE_PORT tells."""

import os

SECRET_KEY = "of a test"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "tests.clients.django_shop",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "streamsql",
        "USER": "streamsql",
        "HOST": "127.0.0.1",
        "PORT": os.environ["DATABASE_PORT"],
    }
}
