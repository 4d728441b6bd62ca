//! Where everything lies.

/// The agent's own user.
pub(super) const USER: &str = "restic-manager-agent";
/// The folder of what was installed and is not the system's.
pub(super) const PROGRAMS: &str = "/usr/local/lib/restic-manager-agent";
/// The agent.
pub(super) const AGENT: &str = "/usr/local/lib/restic-manager-agent/restic-manager-agent";
/// Where people find it.
pub(super) const LINK: &str = "/usr/local/bin/restic-manager-agent";
/// What the administrator decides.
pub(super) const CONFIG: &str = "/etc/restic-manager";
/// The home of the agent's user, where an administrator puts keys of ssh: what is there can make ssh run programs
/// or let somebody in, so the agent may not write it.
pub(super) const HOME: &str = "/etc/restic-manager/home";
/// The administrator's hooks.
pub(super) const HOOKS: &str = "/etc/restic-manager/hooks.d";
/// The administrator's policy.
pub(super) const POLICY: &str = "/etc/restic-manager/policy.json";
/// The agent's state.
pub(super) const STATE: &str = "/var/lib/restic-manager-agent";
/// The helpers' folder, with what was restored.
pub(super) const HELPER_STATE: &str = "/var/lib/restic-manager-helper";
/// Where an administrator puts units.
pub(super) const UNIT_FOLDER: &str = "/etc/systemd/system";

/// The sockets behind which helpers start.
pub(super) const SOCKETS: [&str; 2] =
    ["restic-manager-restore.socket", "restic-manager-helper.socket"];
/// The agent's service.
pub(super) const SERVICE: &str = "restic-manager-agent.service";

/// Every unit, with its text, in which the program's path stands as `@PROGRAM@`.
pub(super) const UNITS: [(&str, &str); 5] = [
    (SERVICE, include_str!("../../../installers/linux/agent/restic-manager-agent.service")),
    (SOCKETS[0], include_str!("../../../installers/linux/agent/restic-manager-restore.socket")),
    (SOCKETS[1], include_str!("../../../installers/linux/agent/restic-manager-helper.socket")),
    (
        "restic-manager-restore@.service",
        include_str!("../../../installers/linux/agent/restic-manager-restore@.service"),
    ),
    (
        "restic-manager-helper@.service",
        include_str!("../../../installers/linux/agent/restic-manager-helper@.service"),
    ),
];
