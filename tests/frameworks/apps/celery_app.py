"""A Celery application: messages in the folder $CELERY_FOLDER, results in the memcached $CELERY_MEMCACHED."""

import os
import sys
import time
import uuid

# Celery takes pylibmc where that is installed.
sys.modules["pylibmc"] = None

from celery import Celery, chord, group  # noqa: E402
from kombu.transport import filesystem  # noqa: E402
from kombu.utils.json import dumps  # noqa: E402


class Channel(filesystem.Channel):
    def _put(self, queue, payload, **options):
        """Let a message appear under its name when it is whole: a worker does not wait for what is still written."""
        name = os.path.join(self.data_folder_out, f"{time.time_ns()}_{uuid.uuid4()}")
        with open(f"{name}.new", "w") as file:
            file.write(dumps(payload))
        os.rename(f"{name}.new", f"{name}.{queue}.msg")


class Transport(filesystem.Transport):
    Channel = Channel


folder = os.environ["CELERY_FOLDER"]
app = Celery(
    "celery_app",
    broker="filesystem://",
    backend=f"cache+memcached://{os.environ['CELERY_MEMCACHED']}/",
)
app.conf.update(
    broker_transport="celery_app:Transport",
    broker_transport_options={
        "data_folder_in": folder,
        "data_folder_out": folder,
        "control_folder": os.path.join(folder, "control"),
        "polling_interval": 0.02,
    },
    broker_connection_retry_on_startup=True,
    result_expires=600,
    worker_prefetch_multiplier=0,  # no limit: an acknowledgement can wait for the next message
    result_chord_join_timeout=30,
    accept_content=["json"],
)

__all__ = ["app", "chord", "group"]


@app.task
def where():
    import memcache

    client = app.backend.client
    return {"client": type(client).__module__, "same": isinstance(client, memcache.Client), "file": memcache.__file__}


@app.task
def echo(key, size=0):
    return {"key": key, "pid": os.getpid(), "filler": key[0] * size}


@app.task
def fail(key):
    raise LookupError(key)


@app.task
def keys_of(results):
    return [result["key"] for result in results]
