//! What this host can enforce, found out by asking the kernel, and what a ring makes of it.

use jail::Handled;
use profiles::{Layer, Ring, Socket};

/// What the kernel offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    /// Landlock's ABI, 0 where there is none.
    pub(crate) landlock: u32,
}

/// What is in force in one ring.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    pub(crate) landlock_abi: u32,
    /// What Landlock governs; zero where the layer is off.
    pub(crate) handled: Handled,
    /// Layers that are missing and that agent.yaml and the ring permit to be missing.
    pub(crate) missing: Vec<Layer>,
}

/// A layer that this host lacks and that nobody said may be missing.
#[derive(Debug, thiserror::Error)]
#[error(
    "this host cannot enforce `{}` ({needs}), and the ring does not start without it; \
     see `agt-supervisor doctor`, or name it under `degrade` where the ring permits that",
    layer.name()
)]
pub(crate) struct LayerError {
    pub(crate) layer: Layer,
    pub(crate) needs: &'static str,
}

impl Host {
    pub(crate) fn look() -> Self {
        Self {
            landlock: sys::landlock::abi(),
        }
    }

    /// The layers of a ring on this host.
    pub(crate) fn layers(self, ring: &Ring) -> Result<Layers, LayerError> {
        let mut missing = Vec::new();
        let mut need = |layer: Layer, have: bool, needs: &'static str| {
            if have {
                return Ok(());
            }
            if !ring.degrade.contains(&layer) {
                return Err(LayerError { layer, needs });
            }
            missing.push(layer);
            Ok(())
        };
        let no_sockets = !ring.has_socket(Socket::Inet);
        // Before ABI 2 every rename between folders fails; before 3 truncate is free.
        need(
            Layer::Landlock,
            self.landlock >= 3,
            "Landlock ABI 3, Linux 6.2",
        )?;
        if no_sockets {
            need(
                Layer::LandlockTcp,
                self.landlock >= 4,
                "Landlock ABI 4, Linux 6.7",
            )?;
        }
        need(
            Layer::LandlockScopes,
            self.landlock >= 6,
            "Landlock ABI 6, Linux 6.12",
        )?;
        let mut handled = sys::landlock::handled(self.landlock);
        if missing.contains(&Layer::Landlock) {
            handled = Handled::default();
        }
        if !no_sockets {
            // Landlock knows ports, not addresses: a ring that may use its own loopback would need
            // a rule for each of 65,536 ports. Its network namespace has nothing but that loopback.
            handled.net = 0;
        }
        Ok(Layers {
            landlock_abi: self.landlock,
            handled,
            missing,
        })
    }
}

/// A CPU limit was asked for and no cgroup keeps it.
pub(crate) fn need_cpu(ring: &Ring, kept: bool, layers: &mut Layers) -> Result<(), LayerError> {
    if ring.cpu.is_none() || kept {
        return Ok(());
    }
    let layer = Layer::CpuLimit;
    if !ring.degrade.contains(&layer) {
        return Err(LayerError {
            layer,
            needs: "a cgroup that this user may write",
        });
    }
    layers.missing.push(layer);
    Ok(())
}
