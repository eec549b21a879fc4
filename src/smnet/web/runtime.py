"""The files of onnxruntime-web that a page needs, from its npm package."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from smnet.checkpoints.download import fetch, sha256_of
from smnet.errors import UserError
from smnet.files import wait_for
from smnet.system import cache_folder

VERSION = "1.30.0"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
"""Of the package, ``onnxruntime-web-VERSION.tgz``."""
FILES = {
    # Some static hosts send no script whose name ends in .mjs.
    "ort.wasm.bundle.min.mjs": "ort.wasm.bundle.min.js",
    "ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
}
"""Files of the package and their names on the page: the engine for processors, without WebGPU."""
FOLDER = f"onnxruntime-web-{VERSION}"
_MAX_BYTES = 100 << 20
_REGISTRY = "https://registry.npmjs.org"

LICENSE = """\
onnxruntime-web, https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def runtime_files() -> dict[str, bytes]:
    """The files of onnxruntime-web by their names on the page, and its licence.

    The package is fetched once, from ``$NPM_CONFIG_REGISTRY`` or npm's registry.

    Raises:
        UserError: it is not in the cache and cannot be fetched; the message says which file to put
            where.
    """
    found = {"LICENSE": LICENSE.encode()}
    with tarfile.open(_package()) as package:
        for name, shown in FILES.items():
            file = package.extractfile(f"package/dist/{name}")
            assert file is not None  # the hash was right
            found[shown] = file.read()
    return found


def _package() -> Path:
    folder = cache_folder("web")
    path = folder / f"{FOLDER}.tgz"
    with wait_for(folder / f"{FOLDER}.lock"):
        if not path.is_file():
            registry = os.environ.get("NPM_CONFIG_REGISTRY", _REGISTRY).rstrip("/")
            address = f"{registry}/onnxruntime-web/-/{path.name}"
            fetch(address, path, SHA256, _MAX_BYTES, FOLDER)
        elif sha256_of(path) != SHA256:
            raise UserError(
                f"{path} is damaged or another file (its SHA-256 is not {SHA256}); delete it"
            )
    return path
