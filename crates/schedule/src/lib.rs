//! Time for the whole product: the clock, and what is due when. Nothing else reads a clock: whoever needs
//! the time is handed it, so that every rule about time can be tested without waiting.

mod clock;
mod cron;
mod due;
pub mod slots;
mod wall;
pub mod zone;

pub use clock::{Clock, ManualClock, SystemClock, WrongClock};
pub use cron::{Cron, CronError, Field};
pub use due::Rhythm;
