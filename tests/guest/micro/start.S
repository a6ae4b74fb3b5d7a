/* SPDX-License-Identifier: ISC */
/*
 * The first instructions of every micro guest.
 *
 * _start is the 64-bit entry of the Linux boot protocol: long mode, memory
 * mapped 1:1, RSI = boot_params. _start32 is the entry of PVH: protected mode
 * without paging, EBX = hvm_start_info; it turns on long mode. Both end in
 * guest_main(boot_params or NULL, hvm_start_info or NULL).
 *
 * The tables below are constants of the image, for on a host whose KVM
 * emulates kernel code, filling them would take longer than all of a guest.
 * Pages are open to CPL3 so that a guest can drop there (guest_user()).
 */
#define SEL_CODE	0x10
#define SEL_DATA	0x18
#define SEL_CODE32	0x20
#define SEL_USER_DATA	0x2b
#define SEL_USER_CODE	0x33
#define SEL_TSS		0x40

	.section .text.start, "ax"
	.code64
	.globl _start
_start:
	lea	boot_stack_top(%rip), %rsp
	mov	%rsi, %rdi
	xor	%esi, %esi
	call	guest_main
1:	cli
	hlt
	jmp	1b

	.code32
	.globl _start32
_start32:
	cld
	cli
	mov	%ebx, %edi
	lgdt	gdt_pointer
	mov	%cr4, %eax
	or	$0x20, %eax		/* PAE */
	mov	%eax, %cr4
	mov	$page_pml4, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx	/* EFER.LME */
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	%cr0, %eax
	or	$0x80000001, %eax
	mov	%eax, %cr0
	ljmp	$SEL_CODE, $1f
	.code64
1:	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	lea	boot_stack_top(%rip), %rsp
	mov	%edi, %esi
	xor	%edi, %edi
	call	guest_main
1:	cli
	hlt
	jmp	1b

/* void guest_user(void (*f)(void)): goes on in f at CPL3 with IOPL 3, for good. Only one vcpu. */
	.globl guest_user
guest_user:
	lea	page_pml4(%rip), %rax
	mov	%rax, %cr3
	lgdt	gdt_pointer(%rip)
	lea	tss(%rip), %rax
	lea	boot_stack_top(%rip), %rdx
	mov	%rdx, 4(%rax)		/* RSP0 */
	movw	$0x68, 102(%rax)	/* all ports open by bitmap, too: not every host keeps IOPL */
	movb	$0xff, 0x2068(%rax)
	lea	gdt+SEL_TSS(%rip), %rdx
	mov	%ax, 2(%rdx)
	shr	$16, %eax
	mov	%al, 4(%rdx)
	mov	%ah, 7(%rdx)
	mov	$SEL_TSS, %eax
	ltr	%ax
	mov	$SEL_USER_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	lea	user_stack_top(%rip), %rax
	sub	$8, %rax		/* as after a call */
	push	$SEL_USER_DATA
	push	%rax
	push	$0x3002			/* IOPL 3 */
	push	$SEL_USER_CODE
	push	%rdi
	iretq

	.text
	.globl memcpy, memset
memcpy:
	mov	%rdi, %rax
	mov	%rdx, %rcx
	rep movsb
	ret
memset:
	mov	%rdi, %r8
	mov	%esi, %eax
	mov	%rdx, %rcx
	rep stosb
	mov	%r8, %rax
	ret

	.data
	.balign 16
	.globl gdt, gdt_pointer
gdt:
	.quad	0, 0
	.quad	0x00af9b000000ffff	/* 10: 64-bit code */
	.quad	0x00cf93000000ffff	/* 18: data */
	.quad	0x00cf9b000000ffff	/* 20: 32-bit code */
	.quad	0x00cff3000000ffff	/* 28: data of CPL3 */
	.quad	0x00affb000000ffff	/* 30: 64-bit code of CPL3 */
	.quad	0
	.quad	0x0000890000002068, 0	/* 40: TSS; its base is filled in */
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt
/* 4 GiB mapped 1:1 in pages of 2 MiB, for CPL3 too. */
	.balign 4096
	.globl page_pml4
page_pml4:
	.quad	page_pdpt + 7
	.zero	4096 - 8
page_pdpt:
	.quad	page_pd + 7, page_pd + 0x1007, page_pd + 0x2007, page_pd + 0x3007
	.zero	4096 - 32
	.globl	page_pd
page_pd:
	.set	page, 0
	.rept	2048
	.quad	(page << 21) + 0x87
	.set	page, page + 1
	.endr

	.bss
	.balign 4096
	.zero	8192
	.globl boot_stack_top
boot_stack_top:
	.zero	8192
user_stack_top:
	.globl tss
tss:
	.zero	0x2069

	.section .note.GNU-stack, "", @progbits
