//! What a restore will change: from a survey and a checked backup to a plan, or to every reason why there is none. Changes
//! nothing.

pub mod in_place;
mod left_down;
pub mod needs_here;
pub mod order;
pub mod planner;
pub mod prepare;
pub mod preview;
pub mod rehearsal;
pub mod replaced;
pub mod side_files;
