# Copyright © 2026 The vm-synic Authors
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# From the multiboot entry (32-bit, no paging) and from the SIPI vector (16-bit real mode) to
# `vp_main` in 64-bit mode: identity mapping, x2APIC on, one stack per VP, RDI = APIC ID = VP index.

        .section .multiboot, "a"
        .balign 4
        .long 0x1BADB002, 0, -0x1BADB002

# Linked at 0x8000, so that SIPI vector 8 starts an AP here at 0800:0000.
        .section .trampoline, "ax"
        .code16
        .globl ap_entry
ap_entry:
        cli
        lgdtl %cs:(2f - ap_entry)
        movl %cr0, %eax
        orb $1, %al
        movl %eax, %cr0
        ljmpl $0x18, $protected_mode
        .balign 4
2:      .word gdt_end - gdt - 1
        .long gdt

        .text
        .code32
        .globl _start
_start:
        cli
        lgdtl gdt_pointer
        ljmpl $0x18, $protected_mode
protected_mode:
        movl $0x10, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl $0x620, %eax               # CR4: PAE, OSFXSR, OSXMMEXCPT
        movl %eax, %cr4
        movl $page_map, %eax
        movl %eax, %cr3
        movl $0xC0000080, %ecx          # EFER.LME
        rdmsr
        orl $0x100, %eax
        wrmsr
        movl $0x80000033, %eax          # CR0: PG, NE, ET, MP, PE
        movl %eax, %cr0
        ljmpl $0x08, $long_mode

        .code64
long_mode:
        xorl %eax, %eax
        movl %eax, %fs
        movl %eax, %gs
        lidt idt_pointer
        movl $0x1B, %ecx                # APIC base: enable, x2APIC
        rdmsr
        orl $0xC00, %eax
        wrmsr
        movl $0x802, %ecx               # x2APIC ID
        rdmsr
        movl %eax, %edi
        leal 1(%rax), %esp
        shll $14, %esp                  # 16 KiB each
        addq $stacks, %rsp
        call vp_main
        ud2

# The SINTs' interrupt. GS:0 holds the VP's own pointer; SSE state is not saved because the guest
# has none.
        .globl sint_entry
sint_entry:
        pushq %rax
        pushq %rcx
        pushq %rdx
        pushq %rsi
        pushq %rdi
        pushq %r8
        pushq %r9
        pushq %r10
        pushq %r11
        movq %gs:0, %rdi
        call sint_interrupt
        popq %r11
        popq %r10
        popq %r9
        popq %r8
        popq %rdi
        popq %rsi
        popq %rdx
        popq %rcx
        popq %rax
        jmp leave_interrupt

# To be called with interrupts off: STI takes effect after HLT, so none is missed. QEMU's SVM does
# not keep that promise to a guest whose VM exits between the two, so `leave_interrupt` does.
        .globl wait_for_interrupt
wait_for_interrupt:
        sti
idle_halt:
        hlt
        ret

# Returns from an interrupt; from one that came before the HLT, to behind it, as if it had ended it.
        .globl leave_interrupt
leave_interrupt:
        cmpq $idle_halt, (%rsp)
        jne 1f
        incq (%rsp)
1:      iretq

# Exceptions 0-31, 16 bytes each: vector in RDI; an error code, where there is one, is on top of the
# frame.
        .balign 16
        .globl exception_entries
exception_entries:
        .set vector, 0
        .rept 32
        .balign 16
        movl $vector, %edi
        movq %rsp, %rsi
        jmp exception
        .set vector, vector + 1
        .endr
exception:
        andq $-16, %rsp
        call vp_exception
        ud2

        .section .rodata
        .balign 8
gdt:    .quad 0
        .quad 0x00AF9B000000FFFF        # 08: 64-bit code
        .quad 0x00CF93000000FFFF        # 10: data
        .quad 0x00CF9B000000FFFF        # 18: 32-bit code
gdt_end:
gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt
idt_pointer:
        .word 256 * 16 - 1
        .quad idt

# The first GiB, in 2 MiB pages: all of RAM and the doorbells.
        .section .data
        .balign 4096
page_map:
        .quad page_directory_pointers + 3
        .fill 511, 8, 0
page_directory_pointers:
        .quad page_directory + 3
        .fill 511, 8, 0
page_directory:
        .set frame, 0
        .rept 512
        .quad frame + 0x83
        .set frame, frame + 0x200000
        .endr

        .section .bss
        .balign 4096
        .globl idt
idt:    .skip 4096
stacks: .skip 8 << 14
