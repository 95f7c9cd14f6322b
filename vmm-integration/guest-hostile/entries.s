# Copyright © 2026 The vm-synic Authors
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# An entry for each vector, 16 bytes each, that returns to where it came from: `trap` gets a pointer
# to the frame and may change it. Only #GP pushes an error code: from vector 16 on, what comes is an
# interrupt, whatever exception has that number.

        .text
        .balign 16
        .globl trap_entries
trap_entries:
        .set vector, 0
        .rept 256
        .balign 16
        .if vector != 13
        pushq $0
        .endif
        pushq $vector
        jmp trap_common
        .set vector, vector + 1
        .endr
trap_common:
        pushq %rax
        pushq %rcx
        pushq %rdx
        pushq %rsi
        pushq %rdi
        pushq %r8
        pushq %r9
        pushq %r10
        pushq %r11
        movq %rsp, %rdi
        movq %gs:0, %rsi
        call trap
        popq %r11
        popq %r10
        popq %r9
        popq %r8
        popq %rdi
        popq %rsi
        popq %rdx
        popq %rcx
        popq %rax
        addq $16, %rsp
        jmp leave_interrupt
