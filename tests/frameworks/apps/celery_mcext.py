"""The application of celery_app.py, with its results in the backend $CELERY_RESULTS."""

import os

from celery_app import app

app.backend_cls = os.environ["CELERY_RESULTS"]
app.conf.result_backend_thread_safe = True


@app.task
def backend():
    import celery

    return [celery.__version__, type(app.backend).__module__, app.backend.as_uri()]
