"""Pretrained weights from a hub: found in its cache, or told at once that they cannot be had.

timm and its hub try 12 times, 50 s in all, before they say that there is no network.
"""

import os
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

import timm
from huggingface_hub import try_to_load_from_cache

from storage.errors import ConfigError

_ANSWER_S = 10.0
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_NO_ANSWER = (407, 500)  # of a proxy, or from here on: nothing can be fetched


def weights_source(backbone: str) -> dict[str, Any]:
    """Returns the overlay of timm's config by which pretrained weights can be had now.

    Empty where they come from the hub; their file in its cache where the hub gives no answer.
    Raises ConfigError, after 10 s at most, where they cannot be had.
    """
    known = timm.get_pretrained_cfg(backbone)
    if known is None or not (known.hf_hub_id or known.url):
        raise ConfigError(
            f"model.pretrained=true: timm knows no weights for {backbone}; give a file, "
            "model.weights_file=FILE, or set model.pretrained=false"
        )
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    hub_id = known.hf_hub_id or ""
    url = hub if hub_id else str(known.url)
    if answers(url):
        return {}
    names = [known.hf_hub_filename] if known.hf_hub_filename else _WEIGHTS
    for name in names if hub_id else ():
        cached = try_to_load_from_cache(hub_id, name)
        if isinstance(cached, str):
            return {"file": cached}
    raise ConfigError(
        f"model.pretrained=true: the weights of {backbone} are not in the cache, and {url} gives "
        "no answer: give them as a file, model.weights_file=FILE, or start without them, "
        "model.pretrained=false"
    )


def answers(url: str, limit_s: float = _ANSWER_S) -> bool:
    """Returns True if a server answers in time, whatever it says."""
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=limit_s).close()
        except urllib.error.HTTPError as error:
            if error.code == _NO_ANSWER[0] or error.code >= _NO_ANSWER[1]:
                return
        except (OSError, ValueError, HTTPException):
            return
        answered.set()

    asking = threading.Thread(target=ask, daemon=True)  # a name server may take longer
    asking.start()
    asking.join(limit_s)
    return answered.is_set()
