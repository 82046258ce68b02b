"""Settings for Django's own tests: the memcached at MCEXT_TEST_SERVER is the default cache."""

import os

DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3"},
    "other": {"ENGINE": "django.db.backends.sqlite3"},
}
SECRET_KEY = "of these tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
CACHES = {"default": {"BACKEND": "mcext.django.MemcachedCache", "LOCATION": os.environ["MCEXT_TEST_SERVER"]}}
