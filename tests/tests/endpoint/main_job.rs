//! A backup, a restore and a hook, with the rights that each of them has.

use crate::{alone, suite};
use serde_json::json;
use std::os::unix::fs::MetadataExt as _;
use testkit::{
    endpoint::{UNIT, USER},
    fleet::Fleet,
    tools::Tools,
    wait_for,
};

/// What the hook leaves behind: who ran it, that it may ask systemd, and that the machine does not fall asleep
/// meanwhile.
const HOOK: &str = "#!/bin/sh
id -u >/root/hook
systemctl is-active restic-manager-agent >>/root/hook
until systemd-inhibit --list --no-legend | grep -q 'Restic Manager'; do sleep 0.1; done
echo awake $HOME >>/root/hook
";

/// Asks a helper something, and prints what it says.
const ASK: &str = "socket(S, AF_UNIX, SOCK_STREAM, 0); \
    connect(S, sockaddr_un($ARGV[0])) or exit(3); syswrite(S, \"$ARGV[1]\\n\"); print <S>";

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_may_read_is_backed_up_and_comes_back_with_its_owner_and_rights() {
    let own = "endpoint::main_job::what_nobody_may_read_is_backed_up_and_comes_back_with_its_owner_and_rights";
    let Some(folder) = alone(own) else { return };
    let plan = json!({
        "name": "Everything that matters", "paths": ["/home"], "retention": { "keep_last": 7 },
        "options": { "hooks": { "before": "note", "timeout_seconds": 60 } },
    });
    let fleet = Fleet::booted(&folder, &Tools::of_workspace(), &suite(), &plan).await.unwrap();
    let machine = &fleet.agent;
    machine.must(&["useradd", "--create-home", "bob"]).unwrap();
    machine.write("/home/bob/secret", "nobody's business", 0o644).unwrap();
    machine.must(&["chown", "-R", "bob:", "/home/bob"]).unwrap();
    machine.must(&["chmod", "000", "/home/bob/secret"]).unwrap();
    machine.must(&["chmod", "700", "/home/bob"]).unwrap();
    machine.write("/etc/restic-manager/hooks.d/note", HOOK, 0o755).unwrap();

    let backup = fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    let snapshot = backup.snapshot().unwrap();
    let noted = std::fs::read_to_string(machine.at("/root/hook")).unwrap();
    assert_eq!(noted, "0\nactive\nawake /root\n", "the hook ran as root, and may ask the system");

    fleet.lists(&snapshot).await.unwrap();
    let restored = fleet.run(&fleet.restore(&snapshot)).await.unwrap().expect("succeeded").unwrap();
    let target = restored.target().unwrap();
    let target = target.to_str().unwrap();
    assert!(target.starts_with("/var/lib/restic-manager-helper/restores/"), "{target}");
    let secret = machine.at(&format!("{target}/home/bob/secret"));
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "nobody's business");
    let about = std::fs::metadata(&secret).unwrap();
    let bob = std::fs::metadata(machine.at("/home/bob/secret")).unwrap();
    assert_ne!(bob.uid(), 0);
    assert_eq!((about.uid(), about.gid(), about.mode()), (bob.uid(), bob.gid(), bob.mode()));
    assert_eq!(about.mode() & 0o7777, 0);

    wait_for("every helper to be gone", async || {
        let units = ["restic-manager-restore@*", "restic-manager-helper@*"];
        let line = ["systemctl", "list-units", "--all", "--no-legend", units[0], units[1]];
        Ok(machine.must(&line)?.trim().is_empty().then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_nobody_who_may_only_read_and_comes_back_when_it_dies() {
    let own =
        "endpoint::main_job::the_agent_is_nobody_who_may_only_read_and_comes_back_when_it_dies";
    let Some(folder) = alone(own) else { return };
    let plan = json!({ "name": "Etc", "paths": ["/etc"], "retention": { "keep_last": 7 } });
    let fleet = Fleet::booted(&folder, &Tools::of_workspace(), &suite(), &plan).await.unwrap();
    let machine = &fleet.agent;
    let pid = || machine.must(&["systemctl", "show", "--value", "--property=MainPID", UNIT]);
    let before = pid().unwrap();
    let status = machine.must(&["cat", &format!("/proc/{}/status", before.trim())]).unwrap();
    let is = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        line.unwrap().split_whitespace().next().unwrap().to_owned()
    };
    let user = machine.must(&["id", "-u", USER]).unwrap();
    assert_eq!(is("Uid"), user.trim());
    // CAP_DAC_READ_SEARCH is the third.
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(is(set), "0000000000000004", "{set}");
    }
    assert_eq!((is("NoNewPrivs").as_str(), is("Seccomp").as_str()), ("1", "2"));

    machine.must(&["systemctl", "kill", "--signal=KILL", "--kill-whom=main", UNIT]).unwrap();
    wait_for("another agent", async || {
        let now = pid()?;
        Ok((now != before && now.trim() != "0").then_some(()))
    })
    .await
    .unwrap();
    fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    // What root does by hand does not take the state away from the service.
    let said = machine.must(&["restic-manager-agent", "status"]).unwrap();
    assert!(said.contains("running"), "{said}");
    let (_, said) = machine.run(&["restic-manager-agent", "doctor"]).unwrap();
    assert!(!said.contains("BAD"), "{said}");
    for words in [
        "it runs, and starts with the machine",
        "every file of this machine can be read",
        "SHA-256",
    ] {
        assert!(said.contains(words), "{words} is not in:\n{said}");
    }
    let strangers = ["find", "/var/lib/restic-manager-agent", "!", "-user", USER];
    assert_eq!(machine.must(&strangers).unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn helpers_hear_the_agent_alone_and_do_only_what_they_are_there_for() {
    let own =
        "endpoint::main_job::helpers_hear_the_agent_alone_and_do_only_what_they_are_there_for";
    let Some(folder) = alone(own) else { return };
    let plan = json!({ "name": "Etc", "paths": ["/etc"], "retention": { "keep_last": 7 } });
    let fleet = Fleet::booted(&folder, &Tools::of_workspace(), &suite(), &plan).await.unwrap();
    let machine = &fleet.agent;
    machine.must(&["useradd", "bob"]).unwrap();
    let ask = |user: &str, socket: &str, request: &str| {
        let socket = format!("/run/restic-manager/{socket}");
        let (id, group) = (format!("--reuid={user}"), format!("--regid={user}"));
        let perl = ["perl", "-MSocket", "-e", ASK, &socket, request];
        let line = [&["setpriv", &id, &group, "--clear-groups"], &perl[..]].concat();
        let (status, said) = machine.run(&line).unwrap();
        (status.code(), said)
    };
    let is_metered = r#"{"request":"is_metered"}"#;
    assert_eq!(ask(USER, "helper.sock", is_metered), (Some(0), "false\n".to_owned()));
    for socket in ["helper.sock", "restore.sock"] {
        assert_eq!(ask("bob", socket, is_metered).0, Some(3), "bob reached {socket}");
    }
    // A helper that restores does nothing that takes the other's rights, and damage is no request.
    let hook = r#"{"request":"hook","with":{"hook":"x","run_id":"00000000-0000-7000-8000-000000000000","moment":"before","plan":null,"repository":"r","so_far":null,"timeout":{"secs":1,"nanos":0}}}"#;
    let told = ask(USER, "helper.sock", hook);
    assert!(told.1.contains("hook_unknown"), "this is no request: {told:?}");
    for request in [is_metered, hook, "{}", "rubbish"] {
        assert_eq!(ask(USER, "restore.sock", request), (Some(0), String::new()), "{request}");
    }
}
