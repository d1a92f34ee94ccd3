//! The union of the sketches in a window that moves: those at its end come, those at its beginning go.
//!
//! Registers know no way back: what one sketch has added cannot be taken out of a union. So the sketches lie in two stacks,
//! as a queue may be made of them. The one that takes what comes keeps the union of all it holds; the one that gives what
//! goes keeps with each sketch the union of it and of all that came after it, up to the newest that it holds. When that one
//! is empty the other is turned over into it. A sketch is united with others three times at most, however long the
//! window is: when it comes, when the stack is turned over, and when somebody asks.
use crate::{Error, Heap, Memory, Sketch};

/// Values of which the last one is at hand.
pub trait Stack<T> {
    /// Puts a value on top.
    fn push(&mut self, value: T);
    /// Takes the topmost.
    fn pop(&mut self) -> Option<T>;
    /// The topmost.
    fn last(&self) -> Option<&T>;
}

impl<T> Stack<T> for Vec<T> {
    fn push(&mut self, value: T) {
        Vec::push(self, value);
    }

    fn pop(&mut self) -> Option<T> {
        Vec::pop(self)
    }

    fn last(&self) -> Option<&T> {
        self.as_slice().last()
    }
}

/// The sketches of a window.
pub struct Moving<M: Memory, S: Stack<Sketch<M>>> {
    memory: M,
    /// What has come since the stacks were turned over, the newest on top.
    came: S,
    /// The union of these.
    all_that_came: Option<Sketch<M>>,
    /// What goes next is on top: each the union of itself and of all below it, which are newer.
    goes: S,
}

impl<M: Memory, S: Stack<Sketch<M>>> Moving<M, S> {
    /// An empty window, of two empty stacks.
    pub fn new(memory: M, stacks: [S; 2]) -> Self {
        let [came, goes] = stacks;
        Moving { memory, came, all_that_came: None, goes }
    }

    /// Where its sketches lie.
    pub fn memory(&self) -> M {
        self.memory
    }

    /// A sketch comes to the window's end. On error nothing changes.
    pub fn add(&mut self, sketch: Sketch<M>) -> Result<(), Error> {
        if let Some(oldest) = self.goes.last() {
            oldest.params().check_same(&sketch.params())?;
        }
        match &mut self.all_that_came {
            Some(all) => all.union(&sketch)?,
            None => {
                let mut copy = Sketch::empty(sketch.params(), self.memory);
                copy.union(&sketch)?;
                self.all_that_came = Some(copy);
            }
        }
        self.came.push(sketch);
        Ok(())
    }

    /// The sketch at the window's beginning goes, if there is one.
    pub fn remove(&mut self) -> Result<(), Error> {
        if self.goes.last().is_none() {
            self.all_that_came = None;
            while let Some(mut sketch) = self.came.pop() {
                if let Some(newer) = self.goes.last() {
                    sketch.union(newer)?;
                }
                self.goes.push(sketch);
            }
        }
        self.goes.pop();
        Ok(())
    }

    /// The union of all sketches in the window; None where there are none.
    pub fn union(&self) -> Result<Option<Sketch>, Error> {
        let mut all: Option<Sketch> = None;
        for part in self.goes.last().into_iter().chain(&self.all_that_came) {
            all.get_or_insert_with(|| Sketch::empty(part.params(), Heap)).union(part)?;
        }
        Ok(all)
    }
}
