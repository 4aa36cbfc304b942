//! Memory by its handle, which addresses are mapped to: who else may have it.

use std::collections::HashMap;

use crate::driver::CUmemGenericAllocationHandle;

/// Whose memory a handle stands for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The program made it and gave it to nobody.
    #[default]
    Program,
    /// Another process has it as well.
    Others,
    /// Of several devices at once (`cuMulticastCreate`): plain loads from it are undefined (PTX ISA, `multimem`).
    Multicast,
}

#[derive(Debug)]
struct Known {
    owner: Owner,
    /// How often the program has it (`cuMemRetainAllocationHandle`).
    count: u32,
    /// Where it was mapped, which may be something else by now.
    addresses: Vec<u64>,
}

/// The handles that the program has.
#[derive(Debug, Default)]
pub struct Handles(HashMap<CUmemGenericAllocationHandle, Known>);

impl Handles {
    fn known(&mut self, handle: CUmemGenericAllocationHandle) -> &mut Known {
        let new = || Known { owner: Owner::Program, count: 1, addresses: Vec::new() };
        self.0.entry(handle).or_insert_with(new)
    }

    /// A handle came into being, and nothing that an earlier one of that number was.
    pub fn came(&mut self, handle: CUmemGenericAllocationHandle, owner: Owner) {
        self.0.insert(handle, Known { owner, count: 1, addresses: Vec::new() });
    }

    /// It stands for memory of several devices at once.
    pub fn is_multicast(&mut self, handle: CUmemGenericAllocationHandle) {
        self.known(handle).owner = Owner::Multicast;
    }

    /// It was mapped at an address. Says whose it is.
    pub fn mapped(&mut self, handle: CUmemGenericAllocationHandle, address: u64) -> Owner {
        let known = self.known(handle);
        known.addresses.push(address);
        known.owner
    }

    /// The program asked for the handle of what is mapped at an address.
    pub fn retained(&mut self, handle: CUmemGenericAllocationHandle, address: u64) {
        let new = !self.0.contains_key(&handle);
        let known = self.known(handle);
        // It was given back and is there through its mapping alone.
        known.count += u32::from(!new);
        known.addresses.push(address);
    }

    /// Another process may have it from here on. Says where it was mapped.
    pub fn handed_on(&mut self, handle: CUmemGenericAllocationHandle) -> Vec<u64> {
        let known = self.known(handle);
        if known.owner == Owner::Program {
            known.owner = Owner::Others;
        }
        known.addresses.clone()
    }

    /// The program gave it back once.
    pub fn released(&mut self, handle: CUmemGenericAllocationHandle) {
        let Some(known) = self.0.get_mut(&handle) else { return };
        known.count = known.count.saturating_sub(1);
        if known.count == 0 {
            self.0.remove(&handle);
        }
    }

    /// Nothing is mapped in a range any more.
    pub fn unmapped(&mut self, address: u64, bytes: u64) {
        let end = address.saturating_add(bytes);
        for known in self.0.values_mut() {
            known.addresses.retain(|mapped| !(address..end).contains(mapped));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_on_is_everybodys_wherever_it_is_mapped() {
        let mut handles = Handles::default();
        assert_eq!([handles.mapped(7, 100), handles.mapped(7, 200)], [Owner::Program; 2]);
        handles.unmapped(100, 50);
        assert_eq!(handles.handed_on(7), [200]);
        assert_eq!(handles.mapped(7, 300), Owner::Others);
        handles.released(7);
        assert_eq!(handles.mapped(7, 100), Owner::Program, "the number means another one");
    }

    #[test]
    fn a_handle_is_known_until_it_was_given_back_as_often_as_it_came() {
        let mut handles = Handles::default();
        handles.came(7, Owner::Others);
        handles.retained(7, 100);
        handles.released(7);
        assert_eq!(handles.mapped(7, 200), Owner::Others);
        handles.released(7);
        assert_eq!(handles.mapped(7, 200), Owner::Program);
        handles.came(8, Owner::Multicast);
        assert_eq!((handles.handed_on(8).len(), handles.mapped(8, 300)), (0, Owner::Multicast));
        handles.came(10, Owner::Others);
        handles.is_multicast(10);
        assert_eq!(handles.mapped(10, 600), Owner::Multicast);
        // Its handle was given back before; the mapping has it.
        handles.retained(9, 400);
        assert_eq!(handles.handed_on(9), [400]);
        handles.released(9);
        assert_eq!(handles.mapped(9, 500), Owner::Program);
    }
}
