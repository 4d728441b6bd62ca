//! The far ends of alarm channels: they take what machines tell, refuse it, are away, or never answer; and what
//! the admin does with the channels that lead there.

use super::{
    Event, World,
    machine::Side,
    say,
    template::{from_json, refused},
};
use agent::core::{AlarmMessage, Attempt, DeliveryKey, Parcel};
use anyhow::Result;
use axum::extract::State;
use protocol::{ChannelId, Code, Problem};
use serde_json::json;
use server::{
    api::{
        channels::{create, update},
        extract::{Body, PathId},
    },
    auth::Principal,
    manager::Manager,
};
use std::{collections::BTreeMap, time::Duration};

/// What becomes of a message at the far end of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// It is taken.
    #[default]
    Takes,
    /// It is refused for now.
    Busy,
    /// It is refused for good, as with a wrong token.
    Refuses,
    /// Nobody is there.
    Away,
    /// It may be taken, and nobody says so.
    Mute,
}

/// The far ends of all channels.
#[derive(Debug, Default)]
pub struct FarEnds {
    /// Whether there are channels in this world.
    pub is_told: bool,
    channels: Vec<ChannelId>,
    moods: BTreeMap<ChannelId, Mood>,
    /// Whether the channels are taken away from the machines.
    is_withdrawn: bool,
}

/// A message on its way.
#[derive(Debug)]
pub struct Letter {
    /// Which.
    pub key: DeliveryKey,
    /// What it says.
    pub message: AlarmMessage,
}

impl FarEnds {
    /// Those of a world with channels, or without.
    pub fn new(is_told: bool) -> Self {
        Self { is_told, ..Self::default() }
    }
}

impl World {
    /// The admin makes the channels.
    pub(super) async fn make_channels(&mut self, manager: &Manager) -> Result<()> {
        if !self.far.is_told || !self.far.channels.is_empty() {
            return Ok(());
        }
        let forms = [
            json!({"name": "chat", "kind": "webhook", "url": "https://chat.example/room",
                "all_hosts": true}),
            json!({"name": "check", "kind": "ping", "url": "https://check.example/{machine}",
                "all_hosts": true}),
        ];
        for form in forms {
            let form = Body(from_json(form)?);
            let made = create::create(Principal::LocalUser, State(manager.clone()), form).await;
            let (_, view) = made.map_err(refused)?;
            self.far.channels.push(view.0.id);
        }
        say!(self, "admin", "makes channels for alarms");
        Ok(())
    }

    /// The admin changes a channel, takes the channels away from the machines, or gives them back.
    pub(super) async fn change_channels(&mut self, manager: &Manager) -> Result<()> {
        if self.far.channels.is_empty() {
            return Ok(());
        }
        let form = match self.dice.below(3) {
            0 => {
                self.far.is_withdrawn = !self.far.is_withdrawn;
                if self.far.is_withdrawn {
                    self.met.count("alarm channels taken away");
                }
                json!({"all_hosts": !self.far.is_withdrawn})
            }
            _ => json!({"name": format!("channel {}", self.events)}),
        };
        let at = usize::try_from(self.dice.below(self.far.channels.len() as u64))?;
        let meant = match form.get("all_hosts") {
            Some(_) => self.far.channels.clone(),
            None => vec![self.far.channels[at]],
        };
        say!(self, "admin", "changes {} channels: {form}", meant.len());
        for id in meant {
            let state = State(manager.clone());
            let form = Body(from_json(form.clone())?);
            update::update(Principal::LocalUser, state, PathId(id), form)
                .await
                .map(drop)
                .map_err(refused)?;
        }
        self.met.count("alarm channels changed");
        Ok(())
    }

    /// A far end is of another mind from now on.
    pub(super) fn change_mood(&mut self) {
        let Some(count) = u64::try_from(self.far.channels.len()).ok().filter(|count| *count > 0)
        else {
            return;
        };
        let at = usize::try_from(self.dice.below(count)).unwrap_or(0);
        let mood = match self.dice.below(8) {
            0..=2 => Mood::Takes,
            3 => Mood::Busy,
            4 => Mood::Refuses,
            5..=6 => Mood::Away,
            _ => Mood::Mute,
        };
        say!(self, "world", "the far end of channel {} is {mood:?}", at + 1);
        self.far.moods.insert(self.far.channels[at], mood);
    }

    /// From now on all far ends take what they are told.
    pub(super) fn calm_far_ends(&mut self) {
        self.far.moods.clear();
    }

    /// An agent sends a message.
    pub(super) fn send_alarm(&mut self, machine: usize, key: DeliveryKey, parcel: Parcel) {
        let mood = self.far.moods.get(&key.1).copied().unwrap_or_default();
        say!(
            self,
            self.machines[machine].name(),
            "tells by channel that the plan is {:?}: {mood:?}",
            parcel.message.state
        );
        let problem = |words: &str| Problem::new(Code::ChannelRefused, words);
        let (arrives, attempt) = match mood {
            Mood::Takes => (true, Attempt::Sent),
            Mood::Mute => {
                self.met.count("far end that never answered");
                (self.once_in(2), Attempt::Uncertain(problem("No answer came.")))
            }
            Mood::Busy => {
                self.met.count("far end that refused for now");
                (false, Attempt::NotSent { problem: problem("It is busy."), again: true })
            }
            Mood::Refuses => {
                self.met.count("far end that refused for good");
                self.saw_turned_away(machine, key);
                (false, Attempt::NotSent { problem: problem("It refuses."), again: false })
            }
            Mood::Away => {
                self.met.count("far end away");
                (false, Attempt::NotSent { problem: problem("Nobody is there."), again: true })
            }
        };
        let way = self.millis(0, 1_500);
        let mut answers = way + self.millis(1, 1_500);
        if mood == Mood::Mute || self.once_in(6) {
            answers += self.millis(1_000, 45_000);
        }
        let life = self.machines[machine].life;
        if arrives {
            let letter = Letter { key, message: parcel.message };
            self.after(way, Event::Letter(machine, life, Box::new(letter)));
        }
        self.beside += 1;
        let side = Box::new(Side::Delivered(key, attempt));
        self.after(answers, Event::Beside(machine, life, side));
    }

    /// A message arrives at its far end, unless its sender died before it was out.
    pub(super) fn letter_arrives(&mut self, machine: usize, life: u64, letter: Box<Letter>) {
        let it = &mut self.machines[machine];
        if it.asleep_since.is_some() {
            it.missed.push(Event::Letter(machine, life, letter));
        } else if it.life == life {
            say!(
                self,
                "far end",
                "hears of {}: {:?}",
                letter.message.machine,
                letter.message.state
            );
            self.saw_heard(machine, &letter);
        }
    }

    /// How long something may go wrong, where it takes longer in worlds that are slow.
    pub(super) fn slowly(&mut self, most: Duration) -> Duration {
        if self.is_long { most * 25 } else { most }
    }
}
