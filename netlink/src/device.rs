//! The device behind a link, and its driver.

use std::path::Path;

/// The device that a link belongs to; links without one (veth, bridges, tunnels) are the kernel's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its bus, for example `virtio` or `pci`.
    pub bus: String,
    /// Its name on the bus, for example `virtio0` or `0000:01:00.0`.
    pub name: String,
}

impl Device {
    /// The driver's name, for example `virtio_net`; `None` when sysfs is not mounted or no driver is bound.
    ///
    /// By the bus and not by `/sys/class/net`, which shows the links of whoever mounted it and not those of our namespace.
    pub fn driver(&self) -> Option<String> {
        self.driver_below(Path::new("/sys"))
    }

    /// Whether the other side of a virtual NIC may leave sums to be made by the device that sends the frame on, and send
    /// frames longer than the MTU (virtio 1.2 section 5.1.3: `VIRTIO_NET_F_GUEST_CSUM`). False for other devices.
    pub fn takes_unfinished_frames(&self) -> bool {
        self.takes_unfinished_below(Path::new("/sys"))
    }

    fn takes_unfinished_below(&self, sysfs: &Path) -> bool {
        // Its bit; sysfs has one character for each, from bit 0 on.
        const GUEST_CSUM: usize = 1;
        let device = sysfs.join("bus").join(&self.bus).join("devices").join(&self.name);
        self.bus == "virtio"
            && std::fs::read(device.join("features"))
                .is_ok_and(|features| features.get(GUEST_CSUM) == Some(&b'1'))
    }

    fn driver_below(&self, sysfs: &Path) -> Option<String> {
        let device = sysfs.join("bus").join(&self.bus).join("devices").join(&self.name);
        let driver = std::fs::read_link(device.join("driver")).ok()?;
        Some(driver.file_name()?.to_str()?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_where_the_device_points() {
        let sysfs = std::env::temp_dir().join(format!("sluice-device-{}", std::process::id()));
        let device = sysfs.join("bus/virtio/devices/virtio0");
        std::fs::create_dir_all(&device).unwrap();
        let target = "../../../bus/virtio/drivers/virtio_net";
        std::os::unix::fs::symlink(target, device.join("driver")).unwrap();
        let device = |name: &str| Device { bus: "virtio".to_owned(), name: name.to_owned() };
        let found = [device("virtio0"), device("virtio1")].map(|it| it.driver_below(&sysfs));
        let unfinished = ["0100", "1000", ""].map(|features| {
            std::fs::write(sysfs.join("bus/virtio/devices/virtio0/features"), features).unwrap();
            device("virtio0").takes_unfinished_below(&sysfs)
        });
        assert_eq!(unfinished, [true, false, false]);
        std::fs::remove_dir_all(&sysfs).unwrap();
        assert_eq!(found, [Some("virtio_net".to_owned()), None]);
    }
}
