//! What this host knows of names: its nameservers and its own list, read here because agt-egress sees
//! no file.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use egress::wire::{Host, Resolver};
use names::HostName;
use profiles::Network;

const RESOLV: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// A packet to agt-egress holds no more (resolv.conf(5) itself takes three servers).
const SERVERS_MAX: usize = 8;
const HOSTS_MAX: usize = 256;
const FILE_BYTES_MAX: usize = 1 << 20;

/// Nameservers and hosts at one moment.
#[derive(Debug, Default)]
pub(crate) struct Known {
    servers: Vec<SocketAddr>,
    hosts: Vec<(HostName, IpAddr)>,
    stamp: [Option<SystemTime>; 2],
}

impl Known {
    pub(crate) fn read() -> Self {
        let stamp = stamp();
        let text = |path| {
            let bytes = fs::read(path).unwrap_or_default();
            let some = bytes.get(..FILE_BYTES_MAX).unwrap_or(&bytes);
            String::from_utf8_lossy(some).into_owned()
        };
        let mut servers = servers(&text(RESOLV));
        if servers.is_empty() {
            // As resolv.conf(5) has it.
            servers.push(SocketAddr::from(([127, 0, 0, 1], 53)));
        }
        Self {
            servers,
            hosts: hosts(&text(HOSTS)),
            stamp,
        }
    }

    /// Whether one of the files was changed since.
    pub(crate) fn changed(&self) -> bool {
        self.stamp != stamp()
    }

    /// What agt-egress is told: of the host's own list only what this ring may reach.
    pub(crate) fn resolver(&self, network: &Network) -> Resolver {
        let mut hosts: Vec<Host> = Vec::new();
        let proxy = network.upstream_proxy.as_ref().map(|at| &at.value.host);
        for (name, address) in &self.hosts {
            let mut allowed = network.allow.iter();
            let wanted = allowed.any(|at| at.value.pattern.matches(name)) || proxy == Some(name);
            if !wanted {
                continue;
            }
            let known = hosts.iter().position(|host| host.name == name.as_str());
            let room = hosts.len() < HOSTS_MAX;
            match known.and_then(|index| hosts.get_mut(index)) {
                Some(host) => host.addresses.push(*address),
                None if room => hosts.push(Host {
                    name: name.to_string(),
                    addresses: vec![*address],
                }),
                None => {}
            }
        }
        Resolver {
            nameservers: self.servers.clone(),
            hosts,
        }
    }
}

fn stamp() -> [Option<SystemTime>; 2] {
    [RESOLV, HOSTS].map(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok())
}

fn servers(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        let address: IpAddr = words.next().filter(|_| is_server)?.parse().ok()?;
        Some(SocketAddr::new(address, 53))
    };
    text.lines().filter_map(address).take(SERVERS_MAX).collect()
}

fn hosts(text: &str) -> Vec<(HostName, IpAddr)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("");
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
            continue;
        };
        let names = words.filter_map(|name| HostName::parse(name).ok());
        found.extend(names.map(|name| (name, address)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_and_hosts_are_found_among_other_things() {
        let servers = servers(
            "# x\nsearch a b\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver ::1\n",
        );
        assert_eq!(
            servers,
            ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]
        );
        let hosts = hosts("127.0.0.1 localhost\n10.1.1.1 Model.Test other # no.test\nbad x\n");
        let names: Vec<&str> = hosts.iter().map(|(name, _)| name.as_str()).collect();
        assert!(
            names.contains(&"model.test") && !names.contains(&"no.test"),
            "{names:?}"
        );
    }
}
