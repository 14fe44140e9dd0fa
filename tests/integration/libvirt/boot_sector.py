"""A guest of 512 bytes: greets on the serial port, obeys the power button, echoes.

It writes ``ready`` to COM1, then polls: the ACPI power button (it switches itself off),
and COM1 (``r`` resets the machine through the keyboard controller, any other byte is sent
back). Enough of an operating system to see what libvirt makes of each.
Ports: the PIIX4 power management base 0x600 is where SeaBIOS puts it on machine type pc.
"""

from __future__ import annotations

_CODE = bytes.fromhex(
    "fa fc"  # cli; cld
    "31c0 8ed8"  # xor ax,ax; mov ds,ax
    "ba0206 b80001 ef"  # PM1 enable register: the power button
    "be467c baf803"  # mov si,word; mov dx,COM1
    "ac 84c0 7403 ee ebf8"  # write the word
    "ba0006 ed f6c401 7513"  # loop: power button pressed? -> off
    "bafd03 ec a801 74ef"  # a byte on COM1? else -> loop
    "baf803 ec 3c72 740c"  # 'r'? -> reset
    "ee ebe4"  # echo; -> loop
    "ba0406 b80020 ef ebdb"  # off: PM1 control register, S5; -> loop
    "b0fe e664 ebfe"  # reset
)
WORD = b"ready\r\n"


def boot_sector_disk() -> bytes:
    """A raw disk of 1 MiB: SeaBIOS boots from none below a cylinder."""
    assert len(_CODE) == 0x46
    return ((_CODE + WORD + b"\0").ljust(510, b"\0") + b"\x55\xaa").ljust(2**20, b"\0")
