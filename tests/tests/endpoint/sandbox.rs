//! What cannot be done from inside the agent's sandbox, each thing with a control that shows that it can be done
//! outside: else the test would prove nothing.

use crate::{alone, suite};
use serde_json::json;
use testkit::{
    endpoint::{Endpoint, UNIT},
    fleet::Fleet,
    tools::Tools,
};

/// The highest score of `systemd-analyze security` that is taken.
const EXPOSURE: f64 = 2.5;

/// Where a control is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Control {
    /// On the machine, as a service of root's.
    Root,
    /// On the machine, as a user without any rights.
    Bob,
    /// On the computer that the machine is on: a container's root may not do it either.
    Outside,
}

/// Something to try: its name, a line for a shell, and where it works.
struct Attempt(&'static str, &'static str, Control);

const ATTEMPTS: &[Attempt] = &[
    Attempt("write to /usr", "echo x >/usr/escaped", Control::Root),
    Attempt("write to /etc", "echo x >/etc/escaped", Control::Root),
    Attempt("write to a home", "echo x >/home/bob/escaped", Control::Root),
    Attempt("write to /tmp", "echo x >/tmp/escaped", Control::Bob),
    Attempt("change its own settings", "echo {} >/etc/restic-manager/agent.json", Control::Root),
    Attempt(
        "change its own program",
        "echo x >>/usr/local/lib/restic-manager-agent/other",
        Control::Root,
    ),
    Attempt("ask systemd for a service", "systemd-run --wait --quiet true", Control::Root),
    Attempt("ask systemd by its private socket", "systemctl start escape-target", Control::Root),
    Attempt("reach the bus", "busctl --no-pager list", Control::Bob),
    Attempt(
        "reach a container engine",
        "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); exit(!connect(S, sockaddr_un(\"/run/docker.sock\")))'",
        Control::Root,
    ),
    Attempt(
        "reach a container engine elsewhere",
        "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); exit(!connect(S, sockaddr_un(\"/var/lib/engine/engine.sock\")))'",
        Control::Root,
    ),
    Attempt(
        "trace another process",
        "perl -e 'exit(syscall(SYS_ptrace, 0x4206, $ENV{VICTIM}+0, 0, 0) != 0)'",
        Control::Root,
    ),
    Attempt(
        "read another process's memory",
        "head -c 1 /proc/$VICTIM/environ | grep -q .",
        Control::Root,
    ),
    Attempt("see another's process", "test -e /proc/$VICTIM", Control::Bob),
    Attempt("signal another process", "kill -0 $VICTIM", Control::Root),
    Attempt("make a mount namespace", "unshare --mount true", Control::Root),
    Attempt("make a user namespace", "unshare --user true", Control::Bob),
    Attempt("mount something", "mount -t tmpfs tmpfs /mnt && umount /mnt", Control::Root),
    Attempt("read a raw device", "head -c 1 /dev/rawdisk | grep -qa .", Control::Root),
    Attempt("make a raw device", "mknod $STATE_DIRECTORY/disk b 254 0", Control::Root),
    // finit_module with no file: who may load modules hears that it is none.
    Attempt(
        "load a kernel module",
        "perl -e 'syscall(SYS_finit_module, -1, 0, 0); exit($!{EPERM} ? 1 : 0)'",
        Control::Outside,
    ),
    Attempt("become root by a program", "test \"$(/usr/local/bin/rootid -u)\" = 0", Control::Bob),
    Attempt(
        "open a packet socket",
        "perl -MSocket -e 'exit(!socket(S, 17, SOCK_RAW, 0))'",
        Control::Root,
    ),
    Attempt(
        "give a file away",
        "touch $STATE_DIRECTORY/x && chown bob $STATE_DIRECTORY/x",
        Control::Root,
    ),
    Attempt(
        "map memory to write and run",
        "perl -e 'exit(syscall(SYS_mmap, 0, 4096, 7, 0x22, -1, 0) == -1)'",
        Control::Bob,
    ),
];

/// The numbers of the system calls that stand in the lines by name.
const CALLS: [(&str, &str); 3] = if cfg!(target_arch = "aarch64") {
    [("SYS_ptrace", "117"), ("SYS_finit_module", "273"), ("SYS_mmap", "222")]
} else {
    [("SYS_ptrace", "101"), ("SYS_finit_module", "313"), ("SYS_mmap", "9")]
};

/// A line for a shell of this computer's kind.
fn line_of(line: &str) -> String {
    CALLS.iter().fold(line.to_owned(), |line, (name, number)| line.replace(name, number))
}

/// Tries everything, and says of each whether it worked.
fn script() -> String {
    let mut script = String::from("#!/bin/sh\n");
    for (number, Attempt(_, line, _)) in ATTEMPTS.iter().enumerate() {
        let line = line_of(line);
        script += &format!(
            "if ({line}) >/dev/null 2>&1; then echo {number} worked; else echo {number} failed; fi\n"
        );
    }
    // What it is there for works.
    script += "cat /home/bob/secret >$STATE_DIRECTORY/read && echo read\n";
    script
}

/// The numbers of what worked.
fn worked(said: &str) -> Vec<usize> {
    said.lines().filter_map(|line| line.strip_suffix(" worked")?.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_way_out_of_the_sandbox() {
    let own = "endpoint::sandbox::there_is_no_way_out_of_the_sandbox";
    let Some(folder) = alone(own) else { return };
    let plan = json!({ "name": "Etc", "paths": ["/etc"], "retention": { "keep_last": 7 } });
    let fleet = Fleet::booted(&folder, &Tools::of_workspace(), &suite(), &plan).await.unwrap();
    let machine = &fleet.agent;
    furnish(machine);

    let unit = std::fs::read_to_string(machine.at(&format!("/etc/systemd/system/{UNIT}"))).unwrap();
    let begins = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
    let inside = unit
        .replace(
            begins,
            "ExecStart=/bin/sh /usr/local/bin/attempts\nType=oneshot\nEnvironmentFile=/etc/victim",
        )
        .replace("Restart=always", "Restart=no");
    machine.write("/etc/systemd/system/inside.service", &inside, 0o644).unwrap();
    let service = |user: &str| {
        format!(
            "[Service]\nType=oneshot\nUser={user}\nStateDirectory=control-{user}\n\
             EnvironmentFile=/etc/victim\nExecStart=/bin/sh /usr/local/bin/attempts\n"
        )
    };
    machine.write("/etc/systemd/system/control-root.service", &service("root"), 0o644).unwrap();
    machine.write("/etc/systemd/system/control-bob.service", &service("bob"), 0o644).unwrap();
    machine.must(&["systemctl", "daemon-reload"]).unwrap();
    let tried = |name: &str| {
        machine.run(&["systemctl", "start", name]).unwrap();
        machine.log_of(name).unwrap()
    };
    let said = tried("inside");
    assert!(
        said.contains("\nread\n") || said.ends_with("\nread"),
        "it cannot do its work either: {said}"
    );
    let got: Vec<&str> = worked(&said).into_iter().map(|number| ATTEMPTS[number].0).collect();
    assert!(got.is_empty(), "from inside the sandbox one can {}\n{said}", got.join(", "));

    // The settings and the agent's folder are as they were, for whoever comes last.
    let controls = [(Control::Bob, tried("control-bob")), (Control::Root, tried("control-root"))];
    for (number, Attempt(name, line, control)) in ATTEMPTS.iter().enumerate() {
        let is_possible = match controls.iter().find(|(where_, _)| where_ == control) {
            Some((_, said)) => worked(said).contains(&number),
            None => std::process::Command::new("sh")
                .args(["-c", &line_of(line)])
                .status()
                .unwrap()
                .success(),
        };
        assert!(
            is_possible,
            "one cannot {name} without a sandbox either, so the test proves nothing"
        );
    }
}

/// What the attempts reach for.
fn furnish(machine: &Endpoint) {
    machine.must(&["useradd", "--create-home", "bob"]).unwrap();
    machine.write("/home/bob/secret", "secret", 0o000).unwrap();
    machine.write("/usr/local/bin/attempts", &script(), 0o755).unwrap();
    machine.must(&["install", "-m", "4755", "/usr/bin/id", "/usr/local/bin/rootid"]).unwrap();
    // Any device that has something in it.
    machine.must(&["mknod", "-m", "600", "/dev/rawdisk", "c", "1", "5"]).unwrap();
    machine
        .write(
            "/etc/systemd/system/escape-target.service",
            "[Service]\nType=oneshot\nExecStart=true\n",
            0o644,
        )
        .unwrap();
    for (name, path) in [("docker", "/run/docker.sock"), ("engine", "/var/lib/engine/engine.sock")]
    {
        let socket = format!(
            "[Socket]\nListenStream={path}\nSocketMode=0660\nAccept=yes\nMaxConnections=1000\n"
        );
        machine.write(&format!("/etc/systemd/system/{name}.socket"), &socket, 0o644).unwrap();
        let service = "[Service]\nStandardInput=socket\nExecStart=true\n";
        machine.write(&format!("/etc/systemd/system/{name}@.service"), service, 0o644).unwrap();
    }
    machine
        .write("/etc/systemd/system/victim.service", "[Service]\nExecStart=sleep infinity\n", 0o644)
        .unwrap();
    machine.must(&["systemctl", "daemon-reload"]).unwrap();
    machine.must(&["systemctl", "start", "docker.socket", "engine.socket", "victim"]).unwrap();
    let victim =
        machine.must(&["systemctl", "show", "--value", "--property=MainPID", "victim"]).unwrap();
    machine.write("/etc/victim", &format!("VICTIM={victim}"), 0o644).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_finds_the_units_in_order_and_little_exposed() {
    let own = "endpoint::sandbox::systemd_finds_the_units_in_order_and_little_exposed";
    let Some(folder) = alone(own) else { return };
    let plan = json!({ "name": "Etc", "paths": ["/etc"], "retention": { "keep_last": 7 } });
    let fleet = Fleet::booted(&folder, &Tools::of_workspace(), &suite(), &plan).await.unwrap();
    let machine = &fleet.agent;
    let units = [
        "restic-manager-agent.service",
        "restic-manager-restore@.service",
        "restic-manager-helper@.service",
    ];
    for unit in units {
        let said =
            machine.must(&["systemd-analyze", "verify", &format!("/etc/systemd/system/{unit}")]);
        assert_eq!(said.unwrap(), "", "{unit}");
    }
    let said = machine.must(&["systemd-analyze", "security", "--no-pager", UNIT]).unwrap();
    let words = "Overall exposure level for restic-manager-agent.service: ";
    let (_, rest) = said.split_once(words).unwrap();
    println!("{words}{rest}");
    let score: f64 = rest.split_whitespace().next().unwrap().parse().unwrap();
    assert!(score <= EXPOSURE, "{said}");
}
