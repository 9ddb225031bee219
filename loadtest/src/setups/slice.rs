//! What a stretch of work cost: CPU time of what is measured, wall time, units of work.

use std::ops::AddAssign;

use crate::{clock, meter::Meter};

/// What one measured stretch cost.
#[derive(Debug, Default, Clone, Copy)]
pub struct Slice {
    /// Nanoseconds; NaN if it could not be measured.
    pub cpu: f64,
    pub wall: u64,
    /// Deliveries or messages.
    pub units: u64,
}

impl AddAssign for Slice {
    fn add_assign(&mut self, other: Slice) {
        self.cpu += other.cpu;
        self.wall += other.wall;
        self.units += other.units;
    }
}

/// Parts of a run: the setups take turns often, so that other work on the machine disturbs all alike.
pub const TURNS: u32 = 8;

impl Slice {
    /// Microseconds of CPU time for each unit.
    pub fn each(&self) -> f64 {
        self.cpu / 1e3 / self.units.max(1) as f64
    }

    /// Units a second.
    pub fn rate(&self) -> f64 {
        self.units as f64 * 1e9 / self.wall.max(1) as f64
    }

    /// How much of one core was used.
    pub fn load(&self) -> f64 {
        self.cpu / self.wall.max(1) as f64
    }
}

/// Measures what `work` costs; it returns the number of units.
pub fn slice(meter: &Meter, work: impl FnOnce() -> Result<u64, String>) -> Result<Slice, String> {
    let (cpu, wall) = (meter.cpu(), clock::now());
    let units = work()?;
    Ok(Slice { cpu: meter.cpu() - cpu, wall: clock::now() - wall, units })
}
