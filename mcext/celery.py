"""A result backend for Celery 5.6 and later, over mcext.Cache. Installed, it is known by its scheme:

    app = Celery("tasks", broker=..., backend="mcext://10.0.0.1:11211;10.0.0.2:11211/?timeout=0.5")

docs/frameworks.md has more. One backend serves all threads: set `result_backend_thread_safe`. It is whole after a fork,
too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import ChordError, ImproperlyConfigured

from mcext.cache import Cache
from mcext.errors import ConnectionLost, ServerTimeout, ServerUnavailable
from mcext.settings import cache_options, options_of_query, server_list

__all__ = ["MemcachedBackend"]


class MemcachedBackend(KeyValueStoreBackend):
    """Results in memcached: mcext://[name:password@]host:port[;host:port...]/[?option=value&...]

    Options are those of mcext.Cache, in the URL or in `result_backend_transport_options`; the URL's win. What fails is
    raised, as Celery's own backend does: with `result_backend_always_retry` Celery tries again. `errors="miss"` hides
    failures, and results that could not be stored are lost.

    Raises ImproperlyConfigured for a URL without servers and for wrong options.
    """

    supports_autoexpire = True
    supports_native_join = True
    supports_result_compression = True
    implements_incr = True

    def __init__(self, app: Any, url: str | None = None, expires: Any = None, **kwargs: Any) -> None:
        super().__init__(app, url=url, expires=expires, expires_type=int, **kwargs)
        self._scheme, _, rest = (url or "").partition("://")
        rest, _, query = rest.partition("?")
        userinfo, has_user, servers = rest.rpartition("@")
        name, _, password = userinfo.partition(":")
        configured = dict(app.conf.get("result_backend_transport_options") or {})
        configured.pop("global_keyprefix", None)  # which Celery's base class has taken
        try:
            self._servers = server_list(servers.rstrip("/"))
            options = {
                "errors": "raise",
                # Celery has encoded what comes here: nothing has to be pickled, and nothing is unpickled.
                "allow_pickle": False,
                **cache_options(configured, source="result_backend_transport_options"),
                **({"username": unquote(name), "password": unquote(password)} if has_user else {}),
                **cache_options(options_of_query(parse_qsl(query), source="its URL"), source="its URL"),
            }
            self.client: Cache[Any] = Cache(self._servers, **options)
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"the result backend mcext://: {error}") from error

    def get(self, key: bytes) -> Any:
        return self.client.get(key)

    def mget(self, keys: Iterable[bytes]) -> Mapping[bytes, Any]:
        return self.client.get_many(keys)

    def set(self, key: bytes, value: str | bytes) -> bool:
        return self.client.set(key, value, self.expires or None)

    def delete(self, key: bytes) -> bool:
        return self.client.delete(key)

    def expire(self, key: bytes, value: int | None) -> bool:
        return self.client.touch(key, value or None)

    def incr(self, key: bytes) -> int:
        count = self.client.incr(key)
        if count is None:
            raise ChordError(f"there is no counter {key.decode()!r}: it has been evicted, or no server has it")
        return count

    def _apply_chord_incr(self, header_result_args: Any, body: Any, **kwargs: Any) -> Any:
        """Begin the counter of a chord: a number of memcached's own, whatever the codec."""
        key = self.get_key_for_chord(header_result_args[0])
        self.client.delete(key)
        self.client.incr(key, initial=0, ttl=getattr(self, "chord_expires", self.expires) or None)
        return super()._apply_chord_incr(header_result_args, body, **kwargs)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Whether Celery may ask again: a server could not be reached, or did not answer."""
        return isinstance(exc, (ServerUnavailable, ServerTimeout, ConnectionLost))

    def as_uri(self, include_password: bool = False) -> str:
        """The URL, for a log: without name, password and options unless these are asked for."""
        return self.url or "" if include_password else f"{self._scheme}://{';'.join(self._servers)}/"

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), "url": self.url, "expires": self.expires})
