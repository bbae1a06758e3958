//! How elements get from task to task within a process: bounded channels, the gate that merges
//! and aligns what comes in, and the ports that spread what goes out.

mod budget;
mod channel;
mod gate;
mod overtaking;
mod partition;
mod port;

pub use budget::OutputBudget;
pub use channel::{ChannelReceiver, ChannelSender, channel};
pub use gate::{Gate, GateEvent};
pub use overtaking::OvertakenChannel;
pub use partition::Partitioner;
pub use port::OutputPort;
