/* The boot sector of the guest's disk: loads a Linux kernel and its ramdisk, and starts it.
 *
 * The disk holds, from sector 1 on and with nothing between: the kernel's real-mode setup with
 * its header filled in and the command line behind it (SETUP_SECTORS), the kernel, the ramdisk.
 * In an emulated guest each request to the BIOS costs milliseconds of polling, whatever its
 * size: this loader asks for 127 sectors at once (the most that EDD allows); a boot loader that
 * knows file systems asks for 32 on average, and unpacks itself first.
 * Sources: Linux Documentation/arch/x86/boot.rst (protocol, 16-bit entry); EDD 3.0 (int 13h,
 * function 42h). novakube_guest/disk.py assembles it and fills in the three numbers at the end.
 */
        .code16
        .globl  _start
        .equ    SETUP_SEGMENT, 0x9000
        .equ    SETUP_SECTORS, 113              /* 0xe200 bytes: the command line is at 0xe000 */
        .equ    BUFFER, 0x10000
        .equ    MOST, 127
        .equ    KERNEL, 0x100000

_start: cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        sti
        cld
        ljmp    $0, $begin
begin:  movb    %dl, drive
        movw    $0x2401, %ax                    /* address line 20 on */
        int     $0x15
        movw    $SETUP_SECTORS, count
        movw    $SETUP_SEGMENT, segment
        call    read
        movl    $KERNEL, %edi
        movl    kernel_sectors, %ecx
        call    load
        movl    ramdisk_address, %edi
        movl    ramdisk_sectors, %ecx
        call    load
        cli
        movw    $SETUP_SEGMENT, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        movw    %ax, %ss
        movw    $0xe000, %sp
        ljmp    $SETUP_SEGMENT + 0x20, $0

/* Reads %ecx sectors on to the linear address %edi, through the buffer below 1 MiB. */
load:   testl   %ecx, %ecx
        jz      loaded
        movl    $MOST, %eax
        cmpl    %eax, %ecx
        jae     some
        movl    %ecx, %eax
some:   subl    %eax, %ecx
        movw    %ax, count
        movw    $BUFFER >> 4, segment
        pushl   %ecx
        pushl   %edi
        call    read
        popl    %edi
        movzwl  count, %ecx
        shll    $7, %ecx                        /* doublewords */
        movl    $BUFFER, %esi
        call    flat
        addr32 rep movsl
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        sti
        popl    %ecx
        jmp     load
loaded: ret

/* Segments of 4 GiB for %ds and %es: loaded in protected mode, they stay when it is left. */
flat:   cli
        lgdt    table_pointer
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        jmp     inside
inside: movw    $8, %bx
        movw    %bx, %ds
        movw    %bx, %es
        andb    $0xfe, %al
        movl    %eax, %cr0
        ret

/* The next "count" sectors to "segment":0. */
read:   movb    $0x42, %ah
        movb    drive, %dl
        movw    $packet, %si
        int     $0x13
        jc      failed
        movzwl  count, %eax
        addl    %eax, sector
        ret
failed: movw    $text, %si
again:  lodsb
        testb   %al, %al
        jz      stopped
        movb    $0x0e, %ah
        int     $0x10
        jmp     again
stopped: hlt
        jmp     stopped

text:   .asciz  "novakube-guest: the boot disk cannot be read"
drive:  .byte   0
        .balign 4
packet: .byte   16, 0
count:  .word   0
        .word   0
segment: .word  0
sector: .quad   1
table:  .quad   0
        .quad   0x00cf92000000ffff              /* data, base 0, 4 GiB */
table_pointer:
        .word   15
        .long   table

        .org    428
kernel_sectors:  .long 0
ramdisk_sectors: .long 0
ramdisk_address: .long 0
