//! Spellings of names and addresses that have fooled somebody's parser.

use std::net::IpAddr;

use names::{Cidr, Error, HostName, HostRule, NamePattern, Range, judge, range};
use proptest::prelude::*;

fn name(text: &str) -> HostName {
    HostName::parse(text).unwrap_or_else(|error| unreachable!("{text}: {error}"))
}

fn address(text: &str) -> IpAddr {
    text.parse()
        .unwrap_or_else(|error| unreachable!("{text}: {error}"))
}

#[test]
fn a_name_has_one_form() {
    for (written, form) in [
        ("API.Example.COM", "api.example.com"),
        ("api.example.com.", "api.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("XN--bcher-kva.example", "xn--bcher-kva.example"),
        ("api。example。com", "api.example.com"),
        ("r3---sn-a.example.com", "r3---sn-a.example.com"),
        ("localhost", "localhost"),
        ("1password.com", "1password.com"),
        ("0x.example", "0x.example"),
    ] {
        assert_eq!(name(written).as_str(), form);
    }
}

#[test]
fn what_reads_as_an_address_is_no_name() {
    for text in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "1.2.3",
        "a.1",
        "example.0x",
        "127.0.0.1.",
        "::1",
        "[::1]",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "::ffff:127.0.0.1",
        "１２７.0.0.1",
        "①②⑦.0.0.1",
    ] {
        assert_eq!(HostName::parse(text), Err(Error::Address), "{text}");
    }
}

#[test]
fn what_is_no_name_is_refused() {
    let long = "a".repeat(64);
    let whole = [
        "a".repeat(63),
        "b".repeat(63),
        "c".repeat(63),
        "d".repeat(63),
    ]
    .join(".");
    for text in [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a.com..",
        "a b",
        "a\0.com",
        "evil\0.example.com",
        "a\n",
        "a/b",
        "http://a",
        "u@a",
        "a:80",
        "a%2e",
        "a\\b",
        "a_b.com",
        "-a.com",
        "a-.com",
        "xn--a.com",
        "a\u{2028}b",
        "a\u{200d}b.com",
        "a／b.com",
        "a＠b.com",
        "*.com",
        &long,
        &whole,
    ] {
        assert!(HostName::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn patterns_keep_to_the_boundary_of_a_label() {
    let below = NamePattern::parse("*.Example.com").unwrap();
    assert!(below.matches(&name("a.example.com")) && below.matches(&name("a.b.example.com")));
    for no in [
        "example.com",
        "evilexample.com",
        "example.com.evil.org",
        "a.example.org",
    ] {
        assert!(!below.matches(&name(no)), "{no}");
    }
    let any = NamePattern::parse("*").unwrap();
    assert!(any.covers(&below) && !below.covers(&any));
    assert!(below.covers(&NamePattern::parse("*.a.example.com").unwrap()));
    assert!(below.covers(&below) && below.covers(&NamePattern::parse("b.example.com").unwrap()));
    assert!(!below.covers(&NamePattern::parse("*.evilexample.com").unwrap()));
    assert!(!NamePattern::parse("a.example.com").unwrap().covers(&below));
}

#[test]
fn every_wrong_rule_has_its_remedy() {
    for (text, error) in [
        ("", Error::Empty),
        ("api.example.com", Error::NoPort),
        ("*", Error::NoPort),
        ("*.example.com", Error::NoPort),
        ("https://api.example.com", Error::Url),
        ("api.example.com:443/v1", Error::Url),
        ("user@api.example.com:443", Error::UserInfo),
        ("10.0.0.1:443", Error::Address),
        ("10.0.0.1", Error::Address),
        ("[::1]:443", Error::Address),
        ("::1", Error::Address),
        ("a.*.com:443", Error::WildcardPlace),
        ("a*.com:443", Error::WildcardPlace),
        ("*.*.com:443", Error::WildcardPlace),
        ("*.com:443", Error::WildcardWide),
        ("a.com:0", Error::Port),
        ("a.com:65536", Error::Port),
        ("a.com:+1", Error::Port),
        ("a.com:", Error::Port),
        ("a.com:https", Error::Port),
        ("a_b.com:443", Error::Character('_')),
        (":443", Error::Empty),
    ] {
        assert_eq!(HostRule::parse(text), Err(error), "{text}");
    }
    let rule = HostRule::parse("API.Example.com:443").unwrap();
    assert_eq!(rule.to_string(), "api.example.com:443");
    assert!(
        rule.matches(&name("api.example.com"), 443) && !rule.matches(&name("api.example.com"), 80)
    );
    let all = HostRule::parse("*:*").unwrap();
    assert!(all.covers(&rule) && !rule.covers(&all) && !all.matches(&name("a.b"), 0));
}

#[test]
fn ranges_are_judged_by_what_they_carry() {
    for public in [
        "8.8.8.8",
        "192.0.2.1",
        "198.51.100.7",
        "203.0.113.9",
        "2001:db8::1",
        "2606:4700::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "172.32.0.1",
        "198.20.0.1",
    ] {
        assert_eq!(range(address(public)), Range::Public, "{public}");
    }
    for private in [
        "0.0.0.0",
        "0.1.2.3",
        "10.1.1.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.1.1",
        "172.16.0.1",
        "172.31.9.9",
        "192.0.0.8",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001::f5ff:fffe",
        "fe80::1",
        "fc00::1",
        "fd12::1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "4000::1",
    ] {
        assert!(
            matches!(range(address(private)), Range::Private(_)),
            "{private}"
        );
    }
    for metadata in [
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
    ] {
        assert_eq!(range(address(metadata)), Range::Metadata, "{metadata}");
    }
}

#[test]
fn a_declared_range_opens_itself_only() {
    let ten = [Cidr::parse("10.0.0.0/8").unwrap()];
    assert_eq!(judge(address("10.9.9.9"), &ten), Ok(()));
    assert_eq!(judge(address("::ffff:10.9.9.9"), &ten), Ok(()));
    assert!(judge(address("192.168.0.1"), &ten).is_err());
    let link = [Cidr::parse("169.254.0.0/16").unwrap()];
    assert_eq!(judge(address("169.254.1.1"), &link), Ok(()));
    assert_eq!(
        judge(address("169.254.169.254"), &link),
        Err(Range::Metadata)
    );
    let just = [Cidr::parse("169.254.169.254/32").unwrap()];
    assert_eq!(judge(address("169.254.169.254"), &just), Ok(()));
    let all = [
        Cidr::parse("0.0.0.0/0").unwrap(),
        Cidr::parse("::/0").unwrap(),
    ];
    assert_eq!(judge(address("fd00:ec2::254"), &all), Err(Range::Metadata));
    for wrong in [
        "10.0.0.1/8",
        "10.0.0.0/33",
        "::/129",
        "x/8",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10/8",
    ] {
        assert_eq!(Cidr::parse(wrong), Err(Error::Cidr), "{wrong}");
    }
    assert!(ten[0].covers(&Cidr::parse("10.1.0.0/16").unwrap()) && !ten[0].covers(&all[0]));
}

proptest! {
    #[test]
    fn a_name_parses_to_itself(text in "\\PC{0,40}|[a-zA-Z0-9._%@:/\\-]{0,80}") {
        if let Ok(name) = HostName::parse(&text) {
            prop_assert_eq!(HostName::parse(name.as_str()), Ok(name.clone()));
            prop_assert!(name.as_str().len() <= 253 && name.as_str().is_ascii());
            prop_assert!(name.as_str().parse::<IpAddr>().is_err());
        }
        drop(Cidr::parse(&text));
    }

    #[test]
    fn a_rule_parses_to_itself(text in "(\\*\\.)?([a-z0-9-]{1,8}\\.){0,4}[a-z]{1,8}:[0-9]{1,6}|\\PC{0,30}") {
        if let Ok(rule) = HostRule::parse(&text) {
            prop_assert_eq!(HostRule::parse(&rule.to_string()), Ok(rule.clone()));
            prop_assert!(rule.covers(&rule));
        }
    }

    #[test]
    fn below_needs_a_dot(head in "[a-z0-9]{1,10}") {
        let below = NamePattern::parse("*.example.com").unwrap();
        let glued = format!("{head}example.com");
        prop_assert!(!below.matches(&name(&glued)));
        let dotted = format!("{head}.example.com");
        prop_assert!(below.matches(&name(&dotted)));
    }

    #[test]
    fn nothing_declared_opens_metadata(length in 0u8..32) {
        let bits = u32::from_be_bytes([169, 254, 169, 254]);
        let base = std::net::Ipv4Addr::from_bits(bits.checked_shr(32 - u32::from(length)).unwrap_or(0).checked_shl(32 - u32::from(length)).unwrap_or(0));
        let cidr = Cidr::parse(&format!("{base}/{length}")).unwrap();
        prop_assert!(judge(address("169.254.169.254"), &[cidr]).is_err());
    }
}
