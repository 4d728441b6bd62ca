//! The line that the Add machine screen shows, and what it leaves behind.

use crate::{alone, suite};
use serde_json::{Value, json};
use testkit::{
    api::Api,
    endpoint::{Endpoint, UNIT},
    fleet::{ENROLMENTS, bare, text},
    manager::Manager,
    tools::Tools,
};

const CRON: &str = "0 3 * * * root restic backup /home\n";

/// A new line, as the screen shows it.
async fn line(api: &Api, name: &str) -> String {
    let made = api.post(ENROLMENTS, &json!({ "name": name })).await.unwrap();
    assert_eq!(made["install"]["brings_agent"], true);
    text(&made["install"], "unix").unwrap()
}

/// Pastes it, and returns whether it succeeded and what it said.
fn paste(machine: &Endpoint, line: &str) -> (bool, String) {
    let (status, printed) = machine.run_with(&["sh"], line).unwrap();
    (status.success(), printed)
}

async fn hosts(api: &Api) -> Vec<Value> {
    api.get("/api/hosts").await.unwrap().as_array().unwrap().clone()
}

/// Every file and folder of the machine but those that a running system changes by itself.
fn files(machine: &Endpoint) -> String {
    let find = "find / -xdev \\( -path /proc -o -path /run -o -path /sys -o -path /dev -o -path /tmp -o -path /var/tmp \
                -o -path /var/log -o -path /var/lib/systemd -o -path /var/cache -o -name '*-' \\) -prune -o -print | sort";
    machine.must(&["sh", "-c", find]).unwrap()
}

fn assert_untouched(machine: &Endpoint, before: &str) {
    assert_eq!(files(machine), *before, "something was left");
    let (status, _) = machine.run(&["id", "restic-manager-agent"]).unwrap();
    assert!(!status.success(), "the user is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_sets_a_machine_up_once_and_uninstalling_leaves_nothing() {
    let own = "endpoint::install::the_line_sets_a_machine_up_once_and_uninstalling_leaves_nothing";
    let Some(folder) = alone(own) else { return };
    let (machine, _manager, api) = bare(&folder, &Tools::of_workspace(), &suite()).await.unwrap();
    machine.write("/etc/cron.d/old-backup", CRON, 0o644).unwrap();
    let before = files(&machine);
    let line = line(&api, "machine1").await;

    let (is_done, said) = paste(&machine, &line);
    assert!(is_done, "{said}");
    for words in [
        "restic lies in",
        "enrolled as host",
        "has met its manager",
        "every file of this machine can be read",
        "/etc/cron.d/old-backup",
    ] {
        assert!(said.contains(words), "{words} is not in what it said:\n{said}");
    }
    let first = hosts(&api).await;
    let pid =
        || machine.must(&["systemctl", "show", "--value", "--property=MainPID", UNIT]).unwrap();
    let running = pid();

    // Twice is harmless: nothing is interrupted, and nobody is suspected.
    let (is_done, said) = paste(&machine, &line);
    assert!(is_done && said.contains("enrolled already"), "{said}");
    assert_eq!(pid(), running);
    let second = hosts(&api).await;
    assert_eq!((second.len(), &second[0]["id"]), (1, &first[0]["id"]));
    assert!(second[0]["hold"].is_null(), "{:#}", second[0]);

    // With its state kept it is the same machine.
    machine.must(&["restic-manager-agent", "uninstall", "--keep-data"]).unwrap();
    let (is_done, said) = paste(&machine, &line);
    assert!(is_done && said.contains("enrolled already"), "{said}");

    // What somebody has made here is theirs.
    machine.write("/etc/restic-manager/hooks.d/dump", "#!/bin/sh\n", 0o755).unwrap();
    let said = machine.must(&["restic-manager-agent", "uninstall"]).unwrap();
    assert!(said.contains("/etc/restic-manager/hooks.d is yours"), "{said}");
    let left: Vec<String> = files(&machine).lines().map(str::to_owned).collect();
    let new: Vec<&str> = left
        .iter()
        .map(String::as_str)
        .filter(|file| !before.lines().any(|it| it == *file))
        .collect();
    assert_eq!(
        new,
        ["/etc/restic-manager", "/etc/restic-manager/hooks.d", "/etc/restic-manager/hooks.d/dump"]
    );
    machine.must(&["rm", "-r", "/etc/restic-manager"]).unwrap();
    assert_untouched(&machine, &before);

    // Another line makes it another machine, and everything goes if that is asked for.
    let (is_done, said) = paste(&machine, &self::line(&api, "machine2").await);
    assert!(is_done, "{said}");
    machine.write("/etc/restic-manager/hooks.d/dump", "#!/bin/sh\n", 0o755).unwrap();
    machine.must(&["restic-manager-agent", "uninstall", "--everything"]).unwrap();
    assert_untouched(&machine, &before);
    assert_eq!(hosts(&api).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_does_not_hold_changes_nothing_and_says_why() {
    let own = "endpoint::install::a_line_that_does_not_hold_changes_nothing_and_says_why";
    let Some(folder) = alone(own) else { return };
    let tools = Tools::of_workspace();
    let (machine, manager, api) = bare(&folder, &tools, &suite()).await.unwrap();
    let before = files(&machine);

    // Somebody else answers at the manager's address, with a whole manager and its own key.
    let restic = tools.restic().unwrap();
    let between = testkit::namespace::NEAR;
    let other = Manager::create_with_programs(&folder.join("other"), Vec::new(), between, &restic)
        .await
        .unwrap();
    let good = line(&api, "machine1").await;
    let (real, false_one) = (&manager.ready().agent, &other.ready().agent);
    let (is_done, said) = paste(&machine, &good.replace(real, false_one));
    assert!(!is_done && said.contains("certificate"), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    assert_untouched(&machine, &before);

    // A token that was never given out, and one that was taken back.
    let made = api.post(ENROLMENTS, &json!({ "name": "machine3" })).await.unwrap();
    let (block, token) = (text(&made["install"], "unix").unwrap(), text(&made, "token").unwrap());
    let (is_done, said) = paste(&machine, &block.replace(&token, "another-token"));
    assert!(!is_done && said.contains("token_unknown"), "{said}");
    let path = format!("{ENROLMENTS}/{}", text(&made, "id").unwrap());
    api.call(reqwest::Method::DELETE, &path, None).await.unwrap();
    let (is_done, said) = paste(&machine, &block);
    assert!(!is_done && said.contains("token_unknown"), "{said}");
    assert!(!said.contains(&token), "it tells the token: {said}");
    assert_untouched(&machine, &before);

    // Not as root, and where curl is missing.
    let (status, said) =
        machine.run_with(&["setpriv", "--reuid=1000", "--clear-groups", "sh"], &good).unwrap();
    assert!(!status.success() && said.contains("as root"), "{said}");
    let without = "PATH=/nowhere; export PATH\n";
    let hidden = good.replacen("set -eu\n", &format!("set -eu\nid() {{ echo 0; }}\n{without}"), 1);
    let (is_done, said) = paste(&machine, &hidden);
    assert!(!is_done && said.contains("Install curl"), "{said}");
    assert_untouched(&machine, &before);

    // The line itself was good.
    let (is_done, said) = paste(&machine, &good);
    assert!(is_done, "{said}");
    assert_eq!(hosts(&api).await.len(), 1);
}
