//! In which zone times are shown.

use super::world::BINARY;
use outlast::ipc::control::Verb;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::world::{World, eventually};

/// tzfile(5): a zone without any transition, whose rule stands in the footer.
fn zone_file(rule: &str) -> Vec<u8> {
    let block = |data: &[u8]| {
        let mut block = b"TZif2".to_vec();
        block.extend([0; 15]);
        // Counts: no UT and no standard indicators, leap seconds or transitions; one type, four
        // bytes of its name.
        for count in [0u32, 0, 0, 0, 1, 4] {
            block.extend(count.to_be_bytes());
        }
        block.extend(data);
        block
    };
    let local = [0, 0, 0x0e, 0x10, 0, 0, b'X', b'X', b'X', 0];
    let mut file = block(&local);
    file.extend(block(&local));
    file.extend(format!("\n{rule}\n").into_bytes());
    file
}

fn shown(root: &Path, zone: &str, zones: &Path) -> String {
    let Output { stdout, stderr, .. } = Command::new(BINARY)
        .args(["logs", "web", "--log-root"])
        .arg(root)
        .env("TZ", zone)
        .env("TZDIR", zones)
        .output()
        .expect("outlast");
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    String::from_utf8(stdout).expect("UTF-8")
}

#[test]
fn times_are_in_the_zone_that_tz_names() {
    let place = tempfile::tempdir().expect("tempdir");
    let (root, zones) = (place.path().join("log"), place.path().join("zones"));
    fs::create_dir_all(root.join("web")).expect("mkdir");
    let line = "2026-07-20T10:00:00.12345 x\n";
    fs::write(root.join("web/current"), line).expect("write");
    fs::create_dir_all(zones.join("Moon")).expect("mkdir");
    let rule = zone_file("AAA-1BBB,M3.5.0,M10.5.0/3");
    fs::write(zones.join("Moon/Crater"), rule).expect("write");
    for (zone, expected) in [
        ("Moon/Crater", "2026-07-20T12:00:00.123+02:00 x\n"),
        (":Moon/Crater", "2026-07-20T12:00:00.123+02:00 x\n"),
        (
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "2026-07-20T12:00:00.123+02:00 x\n",
        ),
        ("CET-1CEST", "2026-07-20T12:00:00.123+02:00 x\n"),
        ("Moon/Sea", "2026-07-20T10:00:00.123+00:00 x\n"),
    ] {
        assert_eq!(shown(&root, zone, &zones), expected, "{zone}");
    }
}

#[test]
fn why_says_when_a_run_ended_with_its_zone() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.until_up("web");
    world.must(Verb::Stop, &["web"]);
    eventually("the end has a time", || {
        let output = Command::new(BINARY)
            .args(["why", "web"])
            .env("OUTLAST_SOCKET", world.socket())
            .env("TZ", "<+0545>-5:45")
            .output()
            .expect("outlast");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let ended = text.lines().find(|line| line.contains("ended at"))?;
        assert!(ended.ends_with(" +05:45"), "{ended}");
        Some(())
    });
}
