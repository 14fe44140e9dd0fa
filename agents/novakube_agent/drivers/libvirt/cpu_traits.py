"""CPU flags and driver abilities -> os-traits names. Pure.

Source: os-traits (hw/cpu/x86, hw/arch, compute/*) and libvirt's cpu_map for flag names.
"""

from __future__ import annotations

from collections.abc import Iterable

from novakube_agent.render.image_properties import DISK_BUSES, VIDEO_MODELS, VIF_MODELS

# libvirt's flag -> os-traits' name, where it is more than the flag in capitals.
_RENAMED = {
    "3dnow": "3DNOW",
    "aes": "AESNI",
    "amx-bf16": "AMXBF16",
    "amx-int8": "AMXINT8",
    "amx-tile": "AMXTILE",
    "avx512-vpopcntdq": "AVX512VPOPCNTDQ",
    "avx512bitalg": "AVX512BITALG",
    "avx512er": "AVX512ER",
    "avx512ifma": "AVX512IFMA",
    "avx512pf": "AVX512PF",
    "avx512vbmi2": "AVX512VBMI2",
    "avx512vnni": "AVX512VNNI",
    "bmi1": "BMI",
    "fma": "FMA3",
    "gfni": "AVX512GFNI",
    "pclmuldq": "CLMUL",
    "pclmulqdq": "CLMUL",
    "pni": "SSE3",
    "rtm": "TSX",
    "sha-ni": "SHA",
    "sse4.1": "SSE41",
    "sse4.2": "SSE42",
    "vaes": "AVX512VAES",
    "vpclmulqdq": "AVX512VPCLMULQDQ",
}
# fmt: off
_SAME = frozenset({
    "abm", "avx", "avx2", "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vbmi",
    "avx512vl", "bmi2", "f16c", "fma4", "mmx", "mpx", "pdpe1gb", "sse", "sse2", "sse4a",
    "ssse3", "stibp", "svm", "tbm", "vmx", "xop",
})
# fmt: on
_ARCHES = {"x86_64": "X86_64", "aarch64": "AARCH64", "ppc64le": "PPC64LE", "s390x": "S390X"}
_IMAGE_TYPES = ("QCOW2", "RAW", "AMI", "AKI", "ARI")


def cpu_traits(features: Iterable[str]) -> frozenset[str]:
    """``HW_CPU_X86_*`` of CPU features as libvirt names them; unknown ones are left out."""
    names = set()
    for feature in features:
        if feature in _RENAMED:
            names.add(f"HW_CPU_X86_{_RENAMED[feature]}")
        elif feature in _SAME:
            names.add(f"HW_CPU_X86_{feature.upper()}")
    return frozenset(names)


def driver_traits(arch: str, *, uefi: bool) -> frozenset[str]:
    """What this driver can do on a node of that architecture."""
    traits = {"COMPUTE_NODE", "COMPUTE_FIRMWARE_BIOS"}
    if uefi:
        traits.add("COMPUTE_FIRMWARE_UEFI")
    if arch in _ARCHES:
        traits |= {f"HW_ARCH_{_ARCHES[arch]}", f"COMPUTE_ARCH_{_ARCHES[arch]}"}
    traits |= {f"COMPUTE_IMAGE_TYPE_{name}" for name in _IMAGE_TYPES}
    traits |= {f"COMPUTE_STORAGE_BUS_{bus.upper()}" for bus in DISK_BUSES}
    traits |= {f"COMPUTE_NET_VIF_MODEL_{model.upper()}" for model in VIF_MODELS}
    traits |= {f"COMPUTE_GRAPHICS_MODEL_{model.upper()}" for model in VIDEO_MODELS}
    return frozenset(traits)
