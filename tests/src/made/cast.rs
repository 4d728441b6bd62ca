//! The machines: what they are called, what they are, and what becomes of each.

use super::dice::Dice;
use jiff::SignedDuration;
use protocol::{HostArch, HostOs};

/// What becomes of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Connected, with a good backup of last night.
    Good,
    /// A backup is going.
    Running,
    /// A backup waits until it is back.
    Waiting,
    /// Some of its files could not be read last night.
    Partial,
    /// Its last backup met somebody else's lock.
    Locked,
    /// Its repository does not answer.
    Unreachable,
    /// The disk of its repository is full.
    DiskFull,
    /// It lost its power in the middle of the last backup.
    Interrupted,
    /// Connected, and nobody backed it up for eleven days.
    Stale,
    /// Nobody has heard of it for days.
    Silent,
    /// Switched off some hours ago.
    Away,
    /// It has just come in, and its repository is not initialised.
    New,
    /// Its repository is ready, and it was never backed up.
    Ready,
    /// It has no plan.
    Unplanned,
    /// The admin must decide whether it is a copy.
    Held,
    /// Good, with a notice that was told of it.
    Behind,
    /// Its key is refused.
    Revoked,
}

impl Fate {
    /// Whether it came in a moment ago.
    pub(super) fn is_fresh(self) -> bool {
        matches!(self, Self::New | Self::Ready | Self::Unplanned)
    }

    /// Whether its agent has applied what it is to do.
    pub(super) fn knows_plans(self) -> bool {
        !matches!(self, Self::Unplanned | Self::Held)
    }

    /// Whether its agent is connected once somebody plays it.
    pub(super) fn is_connected(self) -> bool {
        !matches!(self, Self::Waiting | Self::Silent | Self::Away | Self::Held | Self::Revoked)
    }

    /// How long ago it was heard of, if it is not connected.
    pub(super) fn silence(self, dice: &mut Dice) -> SignedDuration {
        let day = 24 * 60;
        let minutes = if self == Self::Held {
            day
        } else if self == Self::Silent {
            3 * day + dice.below(4 * day)
        } else if self == Self::Revoked {
            16 * day
        } else if self.is_connected() {
            0
        } else {
            60 + dice.below(600)
        };
        SignedDuration::from_mins(i64::try_from(minutes).unwrap_or_default())
    }
}

/// A machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) os: HostOs,
    pub(super) arch: HostArch,
    pub(super) restic: &'static str,
    pub(super) fate: Fate,
    /// What it backs up.
    pub(super) paths: &'static [&'static str],
    /// Bytes of it, now.
    pub(super) bytes: u64,
    pub(super) files: u64,
    /// In per cent of all, over the ninety days.
    pub(super) growth: u64,
    /// The name of a plan that it shares with others, if it does.
    pub(super) shared_plan: Option<&'static str>,
}

const GB: u64 = 1_000_000_000;

/// A kind of machine: what it is called, its system, its paths and its size.
struct Role {
    name: &'static str,
    os: HostOs,
    arch: HostArch,
    paths: &'static [&'static str],
    gigabytes: u64,
    shared_plan: Option<&'static str>,
}

const fn role(
    name: &'static str,
    os: HostOs,
    arch: HostArch,
    gigabytes: u64,
    paths: &'static [&'static str],
) -> Role {
    Role { name, os, arch, paths, gigabytes, shared_plan: None }
}

use HostArch::{Amd64, Arm64};
use HostOs::{Darwin, Linux, Windows};

/// The machines that every fleet has first.
const FIRST: &[(Role, Fate)] = &[
    (role("nas", Linux, Arm64, 1920, &["/srv/photos", "/srv/books"]), Fate::Running),
    (role("web-1", Linux, Amd64, 41, &["/etc", "/var/www"]), Fate::Good),
    (role("db-1", Linux, Amd64, 88, &["/etc", "/var/backups/postgres"]), Fate::Locked),
    (role("reception", Windows, Amd64, 64, &["C:\\Users\\office"]), Fate::Partial),
    (role("lab-new", Linux, Amd64, 12, &["/etc", "/home"]), Fate::New),
    (role("kiosk-2", Windows, Amd64, 13, &["C:\\ProgramData\\Kiosk"]), Fate::Stale),
    (role("studio-laptop", Darwin, Arm64, 211, &["/Users"]), Fate::Away),
    (role("atlas", Linux, Amd64, 412, &["/etc", "/home", "/srv"]), Fate::Good),
    (role("attic-server", Linux, Amd64, 730, &["/srv"]), Fate::Silent),
    (role("bookshelf", Linux, Arm64, 27, &["/srv/books"]), Fate::Ready),
    (role("spare", Linux, Amd64, 5, &["/home"]), Fate::Unplanned),
    (role("build-copy", Linux, Amd64, 33, &["/etc"]), Fate::Held),
    (role("old-web", Linux, Amd64, 18, &["/etc", "/var/www"]), Fate::Revoked),
    (
        role("archive-of-the-municipal-library-second-floor", Linux, Amd64, 2750, &["/srv/scans"]),
        Fate::DiskFull,
    ),
    (role("mail", Linux, Amd64, 96, &["/etc", "/var/mail"]), Fate::Behind),
    (role("darkroom", Darwin, Arm64, 880, &["/Users", "/Volumes/Negatives"]), Fate::Waiting),
];

/// Of what the others are, numbered.
const ROLES: &[Role] = &[
    role("web", Linux, Amd64, 22, &["/etc", "/var/www"]),
    role("db", Linux, Amd64, 140, &["/etc", "/var/backups/postgres"]),
    role("office", Windows, Amd64, 75, &["C:\\Users"]),
    role("laptop", Darwin, Arm64, 190, &["/Users"]),
    role("camera", Linux, Arm64, 310, &["/srv/recordings"]),
    Role {
        shared_plan: Some("Tills"),
        ..role("till", Windows, Amd64, 6, &["C:\\ProgramData\\Till"])
    },
    role("build", Linux, Amd64, 58, &["/etc", "/srv/artifacts"]),
    role("lab", Linux, Amd64, 240, &["/home", "/srv/measurements"]),
    role("books", Linux, Arm64, 35, &["/srv/books"]),
    role("photos", Linux, Amd64, 1150, &["/srv/photos"]),
];

/// A machine that comes in while somebody looks.
pub(super) fn newcomer(dice: &mut Dice) -> Machine {
    let role = role("reading-room", Linux, Amd64, 9, &["/etc", "/home", "/srv"]);
    machine(&role, role.name.to_owned(), Fate::New, dice)
}

/// So many machines, the well-known ones first.
pub(super) fn machines(count: usize, dice: &mut Dice) -> Vec<Machine> {
    let first = FIRST.iter().map(|(role, fate)| (role, role.name.to_owned(), *fate));
    let numbered = (0_usize..).map(|index| {
        let role = &ROLES[index % ROLES.len()];
        (role, format!("{}-{:02}", role.name, 3 + index / ROLES.len()), Fate::Good)
    });
    let known = FIRST.len();
    first
        .chain(numbered)
        .take(count)
        .enumerate()
        .map(|(index, (role, name, fate))| {
            let fate = if index < known { fate } else { some_fate(dice) };
            machine(role, name, fate, dice)
        })
        .collect()
}

fn machine(role: &Role, name: String, fate: Fate, dice: &mut Dice) -> Machine {
    let bytes = role.gigabytes * GB / 100 * (70 + dice.below(60));
    Machine {
        name,
        os: role.os,
        arch: role.arch,
        restic: ["0.18.0", "0.18.0", "0.19.1", "0.17.3"][usize::from(dice.ten()[0] % 4)],
        fate,
        paths: role.paths,
        bytes,
        files: bytes / 1_300_000 + dice.below(9_000),
        growth: 6 + dice.below(30),
        shared_plan: role.shared_plan,
    }
}

fn some_fate(dice: &mut Dice) -> Fate {
    match dice.below(1000) {
        0..=869 => Fate::Good,
        870..=919 => Fate::Away,
        920..=939 => Fate::Partial,
        940..=949 => Fate::Unreachable,
        950..=957 => Fate::Interrupted,
        958..=969 => Fate::Stale,
        970..=979 => Fate::Silent,
        980..=984 => Fate::Running,
        985..=990 => Fate::New,
        _ => Fate::Waiting,
    }
}
