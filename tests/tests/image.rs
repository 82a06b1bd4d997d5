//! The image as its users meet it: booted by every firmware, configured in every way, updated well and badly.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sluice_tests::image::{Artefacts, Firmware, Machine, Segment, Spec, Station, seed};
use sluice_tests::lab::certificates::Authority;
use sluice_tests::lab::traffic::{Traffic, burst};
use sluice_tests::lab::{Lab, run};

/// Everything in the machine is computed: ten times slower than a real one, and more when the cores are busy.
const BOOT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5);
const TOKEN: &str = "correct-horse-battery";

/// One test at a time: machines that share the cores with other machines only wait.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The turn, the image, and a segment for so many machines, which goes first.
fn stage(lab: &str, machines: u8) -> Result<(MutexGuard<'static, ()>, Artefacts, Segment)> {
    let turn = turn();
    Ok((turn, Artefacts::find()?, Segment::build(lab, machines)?))
}

/// What every appliance of these tests is given, whatever the way.
fn files(dir: &Path, station: Station) -> Result<Vec<(&'static str, String)>> {
    let name = format!("vm{}", station.0);
    Authority::new("lab")?.server(dir, &name, &[&station.v4().to_string()])?;
    let read = |ending: &str| -> Result<String> {
        Ok(std::fs::read_to_string(dir.join(format!("{name}.{ending}")))?)
    };
    Ok(vec![
        ("sluice.toml", station.config()),
        ("lan.network", station.network()),
        ("tls.crt", read("crt")?),
        ("tls.key", read("key")?),
        ("operator.token", format!("{TOKEN}\n")),
        ("hostname", format!("edge-{name}\n")),
    ])
}

/// The same files, with network and name in cloud-init's words.
fn in_cloud_inits_words(
    station: Station,
    mut files: Vec<(&'static str, String)>,
) -> Vec<(&'static str, String)> {
    files.retain(|(name, _)| !["lan.network", "hostname"].contains(name));
    let user_data = format!("#cloud-config\nhostname: edge-vm{}\nusers: [default]\n", station.0);
    files.push(("user-data", user_data));
    files.push(("meta-data", "instance-id: lab\n".to_owned()));
    files.push(("network-config", station.network_config()));
    files
}

/// The same files as credentials in the SMBIOS tables.
fn credentials(files: &[(&str, String)]) -> Vec<(String, Vec<u8>)> {
    let name = |file: &str| match file {
        "sluice.toml" => "sluice.config".to_owned(),
        other => format!("sluice.{other}"),
    };
    files.iter().map(|(file, text)| (name(file), text.clone().into_bytes())).collect()
}

/// One boots from BIOS with a CIDATA disk, the other by Secure Boot with credentials; both on one segment.
#[test]
fn two_appliances_boot_announce_balance_and_leave() -> Result<()> {
    let (_turn, image, segment) = stage("image", 2)?;
    let dir = segment.lab.dir();
    let (first, second) = (Station(1), Station(2));

    let mut bios = Spec::new("vm1", Firmware::Bios);
    bios.disk = Some(image.disk(&dir.join("vm1.qcow2"))?);
    bios.seed = Some(seed(&dir.join("vm1.iso"), &in_cloud_inits_words(first, files(dir, first)?))?);
    bios.tap = Some(first.tap());
    let mut uefi = Spec::new("vm2", Firmware::SecureBoot);
    // One file from the state partition, one as a credential from the one place, the rest from the other.
    let mut given = files(dir, second)?;
    let mut take = |name: &str| -> Result<String> {
        let place = given.iter().position(|(file, _)| *file == name);
        Ok(given.swap_remove(place.context("no such file")?).1)
    };
    let (config, network) = (take("sluice.toml")?, take("lan.network")?);
    uefi.disk = Some(image.signed_disk(&dir.join("vm2.qcow2"), ("lan.network", &network))?);
    let file = dir.join("vm2.toml");
    std::fs::write(&file, config)?;
    uefi.fw_cfg = vec![("sluice.config".into(), file)];
    uefi.credentials = credentials(&given);
    uefi.tap = Some(second.tap());

    let mut machines =
        [Machine::start(&segment.wire, dir, &bios)?, Machine::start(&segment.wire, dir, &uefi)?];
    let took = segment.wait_next_hops(&[first, second], BOOT)?;
    eprintln!("both powered on → both announce: {took:.1?}");
    for (machine, station) in machines.iter().zip([first, second]) {
        looks_right(&segment, machine, station, image.version())?;
    }
    let report = burst(&segment.client, &Segment::targets(), 40, PATIENCE)?;
    ensure!(report.failures.is_empty(), "{:?}", report.failures);
    ensure!(report.disguised == 0, "backends see the client's own address");
    for station in [first, second] {
        ensure!(
            report.answers.contains_key(&station.backend()),
            "{} took part: {report:?}",
            station.backend()
        );
    }
    let [saved, _other] = &mut machines;
    stands_still(&segment, saved, bios, (first, second))?;
    let [leaving, _staying] = &machines;
    leaves_in_order(&segment, leaving, second)
}

/// A hypervisor saves a machine and goes on with it later: by then its sessions are gone and its clock is behind.
fn stands_still(
    segment: &Segment,
    machine: &mut Machine,
    mut spec: Spec,
    (station, other): (Station, Station),
) -> Result<()> {
    machine.save()?;
    machine.pull_the_plug()?;
    segment.wait_next_hops(&[other], BOOT)?;
    spec.resumes = true;
    *machine = Machine::start(&segment.wire, segment.lab.dir(), &spec)?;
    let took = segment.wait_next_hops(&[station, other], SOON)?;
    eprintln!("resumed → both announce: {took:.1?}");
    let report = burst(&segment.client, &Segment::targets(), 40, PATIENCE)?;
    ensure!(report.failures.is_empty(), "{:?}", report.failures);
    ensure!(report.answers.contains_key(&station.backend()), "{report:?}");
    Ok(())
}

/// What is published can be made by somebody else, to the last bit.
#[test]
fn the_same_inputs_make_the_same_image() -> Result<()> {
    let _turn = turn();
    let image = Artefacts::find()?;
    let lab = Lab::new("again")?;
    let again = image.build_again(lab.dir())?;
    assert_eq!(again.sums()?, image.sums()?);
    Ok(())
}

/// Firmware that starts only what is signed does not start what is not.
#[test]
fn without_a_signature_secure_boot_refuses() -> Result<()> {
    let (_turn, image, segment) = stage("secure", 1)?;
    let dir = segment.lab.dir();
    let mut spec = Spec::new("vm1", Firmware::SecureBoot);
    spec.disk = Some(image.disk(&dir.join("vm1.qcow2"))?);
    let machine = Machine::start(&segment.wire, dir, &spec)?;
    machine.wait_console("the refusal", BOOT, |text| text.contains("Access Denied"))?;
    Ok(())
}

/// Banner, status page, native XDP with enough queues.
fn looks_right(
    segment: &Segment,
    machine: &Machine,
    station: Station,
    version: &str,
) -> Result<()> {
    let url = format!("status page  https://{}:8443/", station.v4());
    let title = format!("Sluice {version} on edge-vm{}", station.0);
    machine.wait_console("the banner", SOON, |text| {
        [&*title, &*url, &station.v6().to_string(), "health       ready"]
            .iter()
            .all(|part| text.contains(part))
    })?;
    let page = segment.page(station, TOKEN, "/")?;
    ensure!(page.contains(&format!("vm{}", station.0)) && page.contains("native"), "{page}");
    ensure!(
        segment.page(station, "wrong-horse-battery", "/").is_err(),
        "a wrong token opens nothing"
    );
    let status: serde_json::Value =
        serde_json::from_str(&segment.page(station, TOKEN, "/api/v1/status")?)?;
    let xdp = status.pointer("/links/0/xdp").and_then(|xdp| xdp.as_str());
    ensure!(xdp == Some("native"), "{:?}", status.get("links"));
    let problems = status.get("problems").and_then(|problems| problems.as_array());
    ensure!(problems.is_some_and(Vec::is_empty), "{problems:?}");
    Ok(())
}

/// The power button: routes are withdrawn while the machine still balances, so that nobody's request is lost.
fn leaves_in_order(segment: &Segment, machine: &Machine, other: Station) -> Result<()> {
    let traffic =
        Traffic::start(&segment.client, &Segment::targets(), Duration::from_millis(100), PATIENCE);
    machine.power_button()?;
    segment.wait_next_hops(&[other], SOON)?;
    ensure!(machine.is_on()?, "the route has gone before the machine");
    let took = machine.wait_off(SOON)?;
    eprintln!("withdrawn → off: {took:.1?}");
    let report = traffic.stop_unharmed()?;
    ensure!(report.answered() > 10, "{report:?}");
    Ok(())
}

/// No disk, no configuration: DHCP, and a page that says what to do.
#[test]
fn without_a_configuration_a_page_says_what_to_do() -> Result<()> {
    let (_turn, image, segment) = stage("welcome", 1)?;
    let dir = segment.lab.dir();
    let _dhcp = dhcp(&segment, dir)?;
    let mut spec = Spec::new("vm1", Firmware::Direct(image.file("vmlinuz"), image.file("initrd")));
    spec.tap = Some(Station(1).tap());
    spec.memory_mib = 256;
    let machine = Machine::start(&segment.wire, dir, &spec)?;
    let how = "not configured; how to: http://10.0.0.2/";
    let took = machine.wait_console("the page's address", BOOT, |text| text.contains(how))?;
    eprintln!("powered on → page announced, diskless in 256 MiB: {took:.1?}");
    machine.wait_console("a word about the state", SOON, |text| text.contains("in memory only"))?;
    let get = |path: &str| {
        let url = format!("http://10.0.0.2{path}");
        segment.router_ns.exec("curl", &["-sS", "--max-time", "20", "-w", " %{http_code}", &url])
    };
    let page = get("/")?;
    ensure!(
        page.ends_with(" 200") && page.contains("sluice.config") && page.contains("CIDATA"),
        "{page}"
    );
    ensure!(get("/readyz")?.ends_with(" 503"));
    let ssh = segment.router_ns.run(|| {
        std::net::TcpStream::connect_timeout(&(Station(1).v4(), 22).into(), PATIENCE)
            .map_err(|e| e.kind())
    })?;
    ensure!(matches!(ssh, Err(std::io::ErrorKind::ConnectionRefused)), "SSH is off: {ssh:?}");
    Ok(())
}

fn dhcp(segment: &Segment, dir: &Path) -> Result<sluice_tests::lab::Proc> {
    let mut dnsmasq = Command::new("dnsmasq");
    dnsmasq
        .args([
            "--keep-in-foreground",
            "--port=0",
            "--no-resolv",
            "--no-hosts",
            "--conf-file=/dev/null",
            "--user=root",
        ])
        .args([
            "--interface=eth1",
            "--bind-interfaces",
            "--dhcp-range=10.0.0.0,static",
            "--dhcp-option=3,10.0.0.1",
        ])
        .arg("--dhcp-host=02:51:0c:e0:00:02,10.0.0.2")
        .arg(format!("--dhcp-leasefile={}", dir.join("leases").display()))
        .arg(format!("--pid-file={}", dir.join("dnsmasq.pid").display()));
    segment.router_ns.spawn("dnsmasq", dnsmasq)
}

/// A good update stays; a broken one is tried twice and given up; what is on the state partition survives both.
#[test]
fn an_update_that_fails_is_taken_back() -> Result<()> {
    let (_turn, image, segment) = stage("update", 1)?;
    let dir = segment.lab.dir();
    let station = Station(1);
    let key = ssh_key(dir)?;
    let mut spec = Spec::new("vm1", Firmware::Uefi);
    spec.disk = Some(image.disk(&dir.join("vm1.qcow2"))?);
    spec.tap = Some(station.tap());
    spec.credentials = credentials(&files(dir, station)?);
    spec.credentials
        .push(("ssh.authorized_keys.root".into(), std::fs::read(key.with_extension("pub"))?));
    let machine = Machine::start(&segment.wire, dir, &spec)?;
    let took = segment.wait_next_hops(&[station], BOOT)?;
    eprintln!("powered on → announces, by UEFI and alone: {took:.1?}");
    segment.wait_ssh(station, &key, BOOT)?;
    let ssh = |command: &str| segment.ssh(station, &key, command);
    let watchdog = ssh("cd /sys/class/watchdog/watchdog0 && cat identity state")?;
    ensure!(watchdog.contains("i6300ESB") && watchdog.contains("\nactive"), "{watchdog}");
    survives_kill(&segment, station, &ssh)?;

    let good = image.update(dir, "0.2.0", None)?;
    let breaks = "rdinit=/nowhere panic=1 console=ttyS0,115200 loglevel=4";
    let broken = image.update(dir, "0.3.0", Some(breaks))?;
    copy(&segment, station, &key, &good)?;
    // The signature of another file.
    let signature = |file: &Path| file.with_extension("efi.minisig");
    std::fs::copy(signature(&broken), dir.join("other.minisig"))?;
    segment.copy(station, &key, &dir.join("other.minisig"))?;
    let error = ssh(
        "sluice update /tmp/sluice-0.2.0-amd64.efi --signature /tmp/other.minisig 2>&1 && echo taken || true",
    )?;
    ensure!(error.contains("signature") && !error.contains("taken"), "{error}");

    ssh("sluice update /tmp/sluice-0.2.0-amd64.efi --reboot")?;
    machine.wait_console("the second boot", BOOT, |text| ready_after(text, "Restarting system"))?;
    segment.wait_ssh(station, &key, BOOT)?;
    let blessed = entries_once(&ssh, |names| names.contains("sluice_0.2.0.efi"))?;
    ensure!(
        blessed.contains(&format!("sluice_{}.efi", image.version())),
        "the one before stays: {blessed}"
    );

    // Straight into the boot partition, with no room in memory for it.
    segment.copy(station, &key, &signature(&broken))?;
    let started = std::time::Instant::now();
    let update = "sluice update - --signature /tmp/sluice-0.3.0-amd64.efi.minisig --reboot";
    segment.ssh_with(station, &key, update, &broken)?;
    machine.wait_console("two panics", BOOT, |text| text.matches("Kernel panic").count() >= 2)?;
    machine.wait_console("the third boot", BOOT, |text| ready_after(text, "Kernel panic"))?;
    eprintln!("update → two tries → the version before is ready: {:.1?}", started.elapsed());
    segment.wait_ssh(station, &key, BOOT)?;
    let list = ssh("sluice update --list")?;
    // The system in both updates calls itself what this image does; the boot loader knows what it has started.
    for (version, state) in [("0.2.0", "runs, good"), ("0.3.0", "no tries left")] {
        ensure!(list.lines().any(|line| line.contains(version) && line.contains(state)), "{list}");
    }
    segment.wait_next_hops(&[station], SOON)?;
    Ok(())
}

/// Whether the console says that all is well after the last time that it said `mark`.
fn ready_after(console: &str, mark: &str) -> bool {
    console.rsplit_once(mark).is_some_and(|(_, after)| after.contains("health       ready"))
}

fn ssh_key(dir: &Path) -> Result<PathBuf> {
    let key = dir.join("operator");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))?;
    Ok(key)
}

/// An update and its signature, into the machine's memory.
fn copy(segment: &Segment, station: Station, key: &Path, file: &Path) -> Result<()> {
    segment.copy(station, key, file)?;
    segment.copy(station, key, &file.with_extension("efi.minisig"))
}

/// The daemon is started again by systemd, and packets flow all the time.
fn survives_kill(
    segment: &Segment,
    station: Station,
    ssh: &impl Fn(&str) -> Result<String>,
) -> Result<()> {
    segment.wait_next_hops(&[station], BOOT)?;
    let targets = Segment::targets();
    let traffic = Traffic::start(&segment.client, &targets, Duration::from_millis(100), PATIENCE);
    ssh("systemctl kill --signal=KILL sluice.service")?;
    ssh(
        "until [ $(systemctl show -P NRestarts sluice.service) = 1 ] && sluice wait --timeout 60s; do sleep 0.2; done",
    )?;
    traffic.stop_unharmed()?;
    // What it may do is what the unit says.
    let status = ssh("cat /proc/$(systemctl show -P MainPID sluice.service)/status")?;
    let effective = status.lines().find(|line| line.starts_with("CapEff")).context("CapEff")?;
    ensure!(
        effective.ends_with("000000c000001400"),
        "NET_BIND_SERVICE, NET_ADMIN, PERFMON, BPF: {effective}"
    );
    Ok(())
}

/// The names in the boot partition, once they are as wanted.
fn entries_once(
    ssh: &impl Fn(&str) -> Result<String>,
    wanted: impl Fn(&str) -> bool,
) -> Result<String> {
    let look = || -> Result<String> {
        let names = ssh("ls /efi/EFI/Linux")?;
        ensure!(wanted(&names), "{names}");
        Ok(names)
    };
    sluice_tests::lab::until("the boot entries", SOON, look).map(|(names, _)| names)
}
