"""Whole objects by name below one folder or URL: put whole, put create-only, list, delete.

    objects = open_objects("data/store")  # or s3://bucket/store
    objects.put_new("index/part-00000.parquet", data)

An object appears under its name at once and complete, and is on the disk (fsync), or has been
accepted by the object store, before `put` returns. `put_new` never replaces anything: an object
with equal bytes is accepted, other bytes raise ObjectExistsError.
"""

from storage.errors import ConfigError
from storage.objects.bucket import RemoteObjects
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.local import LocalObjects
from storage.objects.protocol import Listing, Objects
from storage.objects.urls import check_url, is_remote, local_path


def open_objects(
    url: str, listing: Listing | None = None, *, remote: RemoteConfig = DEFAULT
) -> Objects:
    """Opens a path or a URL; ConfigError on a URL that cannot work as given.

    `listing` names the object that replaces the listing which a web server cannot give.
    """
    check_url(url)
    if is_remote(url):
        return RemoteObjects(url, listing, remote)
    if not url.strip():
        raise ConfigError("the path of a folder is empty; the folder that you are in is .")
    if local_path(url).is_file():
        raise ConfigError(f"{url} is a file; give a folder")
    return LocalObjects(url, remote)
