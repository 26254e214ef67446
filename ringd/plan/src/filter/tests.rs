use proptest::prelude::*;

use super::*;

/// The kernel's machine, as far as seccomp filters use it (Documentation/networking/filter.rst).
fn interpret(insns: &[Insn], arch: u32, nr: u32, args: [u64; 6]) -> Verdict {
    let mut data = Vec::new();
    data.extend(nr.to_le_bytes());
    data.extend(arch.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    data.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
    let (mut at, mut acc) = (0, 0_u32);
    loop {
        let insn = insns[at];
        let test = |holds: bool| usize::from(if holds { insn.jt } else { insn.jf });
        at += 1;
        match insn.code {
            0x20 => {
                let from = insn.k as usize;
                acc = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
            }
            0x54 => acc &= insn.k,
            0x05 => at += insn.k as usize,
            0x15 => at += test(acc == insn.k),
            0x35 => at += test(acc >= insn.k),
            0x45 => at += test(acc & insn.k != 0),
            0x06 => {
                return match insn.k & 0xffff_0000 {
                    0x7fff_0000 => Verdict::Allow,
                    0x0005_0000 => Verdict::Errno((insn.k & 0xffff) as u16),
                    _ => Verdict::Kill,
                };
            }
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn everything() -> FilterSpec {
    FilterSpec {
        allowed: SyscallSet::known(),
        exec: Exec::Any,
        sockets: Sockets {
            unix: true,
            inet: true,
            netlink_route: true,
        },
    }
}

fn run(spec: &FilterSpec, name: &str, args: [u64; 6]) -> Verdict {
    let nr = syscalls::by_name(name).unwrap();
    let compiled = interpret(&compile(spec).insns, AUDIT_ARCH_X86_64, nr.0.into(), args);
    assert_eq!(compiled, verdict(spec, nr, args), "{name} {args:x?}");
    compiled
}

fn args(first: &[u64]) -> [u64; 6] {
    let mut args = [0; 6];
    args[..first.len()].copy_from_slice(first);
    args
}

#[test]
fn every_call_of_the_table_is_answered_as_specified() {
    for spec in [
        everything(),
        FilterSpec {
            exec: Exec::Once,
            ..everything()
        },
    ] {
        let program = compile(&spec);
        assert!(program.insns.len() <= 4096, "{}", program.insns.len());
        for number in 0..syscalls::NUMBERS {
            let got = interpret(&program.insns, AUDIT_ARCH_X86_64, number.into(), [0; 6]);
            assert_eq!(got, verdict(&spec, Nr(number), [0; 6]), "{number}");
        }
        assert_eq!(
            interpret(&program.insns, AUDIT_ARCH_X86_64, 4000, [0; 6]),
            ENOSYS
        );
    }
}

#[test]
fn foreign_tables_are_death() {
    let insns = compile(&everything()).insns;
    assert_eq!(interpret(&insns, 0x4000_0003, 20, [0; 6]), Verdict::Kill);
    assert_eq!(
        interpret(&insns, AUDIT_ARCH_X86_64, X32_BIT, [0; 6]),
        Verdict::Kill
    );
    assert_eq!(
        interpret(&insns, AUDIT_ARCH_X86_64, u32::MAX, [0; 6]),
        Verdict::Kill
    );
}

#[test]
fn what_no_ring_has_is_refused_whatever_the_set_says() {
    for (_, names) in syscalls::ALWAYS_REFUSED {
        for name in *names {
            assert_ne!(run(&everything(), name, [0; 6]), Verdict::Allow, "{name}");
        }
    }
    assert_eq!(run(&everything(), "clone3", [0; 6]), ENOSYS);
}

#[test]
fn rules_look_at_the_low_half_only() {
    let spec = everything();
    let high = 1 << 32;
    for (name, refused) in [
        ("ioctl", args(&[0, 0x5412])),
        ("fcntl", args(&[0, 8])),
        ("prctl", args(&[22])),
        ("clone", args(&[0x1000_0000])),
        ("personality", args(&[0x0400_0000])),
        ("chmod", args(&[0, 0o4755])),
        ("open", args(&[0, 0o100, 0o2755])),
        ("openat", args(&[0, 0, 0o20_200_000, 0o4000])),
        ("mknodat", args(&[0, 0, 0o020_666])),
        ("socket", args(&[40, 1, 0])),
        ("socket", args(&[2, 1, 262])),
        ("socket", args(&[2, 3, 1])),
        ("socket", args(&[16, 3, 9])),
        ("sendto", args(&[0, 0, 0, 0x2000_0000])),
        ("setsockopt", args(&[0, 41, 57])),
        ("prlimit64", args(&[1])),
        ("setpriority", args(&[0, 1])),
        ("sched_setscheduler", args(&[0, 1])),
        ("execveat", args(&[0, 0, 0, 0, 0x1000])),
    ] {
        assert_ne!(run(&spec, name, refused), Verdict::Allow, "{name}");
        assert_ne!(
            run(&spec, name, refused.map(|arg| arg | high)),
            Verdict::Allow,
            "{name} high"
        );
    }
    for (name, allowed) in [
        ("ioctl", args(&[0, 0x5401])),
        ("fcntl", args(&[0, 1])),
        ("prctl", args(&[15])),
        ("clone", args(&[0x003d_0f00])),
        ("personality", args(&[u64::MAX])),
        ("chmod", args(&[0, 0o1777])),
        // Without O_CREAT the third argument is whatever was in the register.
        ("open", args(&[0, 0, 0o6000])),
        ("mknod", args(&[0, 0o010_644])),
        ("socket", args(&[1, 0x80801, 0])),
        ("socket", args(&[10, 2, 17])),
        ("socket", args(&[16, 0x80003, 0])),
        ("sched_setscheduler", args(&[0, 0x4000_0003])),
        ("prlimit64", args(&[0, 7])),
    ] {
        assert_eq!(run(&spec, name, allowed), Verdict::Allow, "{name}");
    }
}

#[test]
fn a_ring_without_sockets_makes_none() {
    let spec = FilterSpec {
        sockets: Sockets::default(),
        ..everything()
    };
    for family in 0..64 {
        assert_eq!(run(&spec, "socket", args(&[family, 1, 0])), EPERM);
    }
    for kind in [1, 5, 0x80801] {
        assert_eq!(
            run(&spec, "socketpair", args(&[1, kind, 0])),
            Verdict::Allow
        );
    }
    // An end of a datagram pair sends to any path.
    for kind in [2, 3, 0x80802, 1 << 32 | 2] {
        assert_eq!(
            run(&spec, "socketpair", args(&[1, kind, 0])),
            Verdict::Errno(97)
        );
    }
    assert_eq!(
        run(&everything(), "socketpair", args(&[1, 2, 0])),
        Verdict::Allow
    );
}

#[test]
fn a_single_exec_takes_the_secret_and_nothing_else() {
    let spec = FilterSpec {
        exec: Exec::Once,
        ..everything()
    };
    let mut program = compile(&spec);
    let (low, high) = program.secret_at.unwrap();
    program.insns[low].k = 0x1111_2222;
    program.insns[high].k = 0x3333_4444;
    let nr = syscalls::by_name("execveat").unwrap().0.into();
    let exec = |secret| {
        let args = [0, 0, 0, 0, 0, secret];
        interpret(&program.insns, AUDIT_ARCH_X86_64, nr, args)
    };
    assert_eq!(exec(0x3333_4444_1111_2222), Verdict::Allow);
    for wrong in [
        0,
        0x1111_2222,
        0x3333_4444_0000_0000,
        0x1111_2222_3333_4444,
        u64::MAX,
    ] {
        assert_eq!(exec(wrong), EPERM, "{wrong:x}");
    }
    assert_eq!(run(&spec, "execve", [0; 6]), EPERM);
}

#[test]
fn init_has_a_dozen_calls() {
    let insns = init_filter().insns;
    let number = |name: &str| u32::from(syscalls::by_name(name).unwrap().0);
    let at = |name| interpret(&insns, AUDIT_ARCH_X86_64, number(name), [0; 6]);
    assert_eq!(at("wait4"), Verdict::Allow);
    assert_eq!(at("execve"), Verdict::Kill);
    assert_eq!(at("openat"), Verdict::Kill);
}

proptest! {
    #[test]
    fn compiled_and_plain_agree(
        words in proptest::array::uniform8(any::<u64>()),
        once in any::<bool>(),
        (unix, inet, netlink_route) in any::<(bool, bool, bool)>(),
        numbers in proptest::collection::vec(0_u16..512, 1..40),
        args in proptest::array::uniform6(prop_oneof![
            any::<u64>(), 0_u64..300, (0_u32..64).prop_map(|bit| 1 << bit), Just(0o4755), Just(0x5412)
        ]),
    ) {
        let mut bytes = [0; 64];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        let spec = FilterSpec {
            allowed: SyscallSet::from_le_bytes(bytes),
            exec: if once { Exec::Once } else { Exec::Any },
            sockets: Sockets { unix, inet, netlink_route },
        };
        let program = compile(&spec);
        for number in numbers {
            let got = interpret(&program.insns, AUDIT_ARCH_X86_64, number.into(), args);
            prop_assert_eq!(got, verdict(&spec, Nr(number), args), "{}", number);
        }
    }
}
