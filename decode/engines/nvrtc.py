"""CUDA C++ compiled at run time and launched beside torch, with what torch's own packages bring.

NVRTC (`libnvrtc`) compiles, the driver (`libcuda`) loads and launches; nobody needs nvcc. Compiled
kernels are kept in the user's cache folder (`uyir.cache`).
"""

from __future__ import annotations

import ctypes
import glob
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

from uyir.cache import cache_folder
from uyir.errors import EngineError

_MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


def why_not() -> Optional[str]:
    """Why kernels cannot be compiled and run here, or None if they can."""
    try:
        import torch
    except ImportError as error:
        return f"torch cannot be imported: {error}"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if torch.version.hip is not None:
        return "torch is built for ROCm, not CUDA"
    if torch.cuda.get_device_capability()[0] < 8:
        return "the GPU is older than compute capability 8.0 (Ampere)"
    try:
        _compiler()
        _driver()
    except EngineError as error:
        return str(error)
    return None


class Module:
    """Kernels compiled from one source with one set of macros, loaded on torch's current device."""

    def __init__(self, source: str, macros: Mapping[str, int]) -> None:
        import torch

        torch.zeros(1, device="cuda")  # the context that the driver's calls below want
        major, minor = torch.cuda.get_device_capability()
        options = [f"--gpu-architecture=sm_{major}{minor}", "--fmad=false", "--std=c++17"]
        options += [f"-D{name}={value}" for name, value in macros.items()]
        self._driver = _driver()
        self._handle = ctypes.c_void_p()
        image = _cubin(source, options)
        self._check(self._driver.cuModuleLoadData(ctypes.byref(self._handle), image))
        self._functions: dict[str, ctypes.c_void_p] = {}

    def launch(
        self, name: str, grid: int, block: int, shared: int, arguments: Sequence[Any]
    ) -> None:
        """Launch on torch's current stream; ``arguments`` are ctypes values, structures included."""
        import torch

        function = self._functions.get(name)
        if function is None:
            function = ctypes.c_void_p()
            self._check(
                self._driver.cuModuleGetFunction(
                    ctypes.byref(function), self._handle, name.encode()
                )
            )
            self._functions[name] = function
        if shared > 48 * 1024:
            self._check(self._driver.cuFuncSetAttribute(function, _MAX_DYNAMIC_SHARED, shared))
        pointers = (ctypes.c_void_p * len(arguments))(
            *(ctypes.cast(ctypes.pointer(a), ctypes.c_void_p) for a in arguments)
        )
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        self._check(
            self._driver.cuLaunchKernel(
                function, grid, 1, 1, block, 1, 1, shared, stream, pointers, None
            )
        )

    def _check(self, code: int) -> None:
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(text))
            raise EngineError(f"the CUDA driver says: {(text.value or b'?').decode()} ({code})")


@lru_cache(maxsize=1)
def _driver() -> Any:
    for name in ("libcuda.so.1", "libcuda.so", "nvcuda.dll"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise EngineError("the CUDA driver's library (libcuda) is not to be found")


@lru_cache(maxsize=1)
def _compiler() -> Any:
    """NVRTC: the one that torch has loaded or brings in its packages, else the system's."""
    import torch

    major = (torch.version.cuda or "12").partition(".")[0]
    names = [f"libnvrtc.so.{major}"]
    site = Path(torch.__file__).parent.parent
    for pattern in (
        f"nvidia/*/lib/libnvrtc.so.{major}*",
        "torch/lib/libnvrtc*.so*",
        f"nvidia/*/bin/nvrtc64_{major}*.dll",
    ):
        names += sorted(glob.glob(str(site / pattern)))
    names.append("libnvrtc.so")
    for name in names:
        if "builtins" in name or ".alt." in name:
            continue
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise EngineError(f"NVRTC for CUDA {major} (libnvrtc) is not to be found: it comes with torch")


def _cubin(source: str, options: Sequence[str]) -> bytes:
    nvrtc = _compiler()
    version = (ctypes.c_int(), ctypes.c_int())
    nvrtc.nvrtcVersion(ctypes.byref(version[0]), ctypes.byref(version[1]))
    key = f"{source}\0{options}\0{version[0].value}.{version[1].value}"
    path = None
    with suppress(OSError, RuntimeError):  # no home folder, or nothing there
        path = cache_folder() / "kernels" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.cubin"
        return path.read_bytes()
    image = _compile(nvrtc, source, options)
    if path is None:
        return image
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(image)
        os.replace(file.name, path)
    except OSError:
        pass  # a read-only home only means compiling again next time
    return image


def _compile(nvrtc: Any, source: str, options: Sequence[str]) -> bytes:
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"search.cu", 0, None, None)
    flags = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    code = nvrtc.nvrtcCompileProgram(program, len(options), flags)
    size = ctypes.c_size_t()
    if code:
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        raise EngineError(f"NVRTC cannot compile the search kernels ({code}): {log.value.decode()}")
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    image = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, image)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return image.raw
