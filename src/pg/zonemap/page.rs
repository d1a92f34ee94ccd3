//! A page of the zone map as numbers, and what may be done to it. Knows no PostgreSQL.
//!
//! A zone is `ZONE` pages of a table on end. Its entry is a state, and for each indexed column the least and the
//! greatest value that the zone holds. Entries have fixed places: page `p` of the index describes the zones from
//! `p` times `per_page` on, and nothing ever moves.
//!
//! Invariant: where an entry is closed, every row of its zone whose insertion has found it open, or has opened it, lies
//! between its bounds. Who keeps it:
//! - an insertion first writes its row, then looks at the entry, and opens it unless it is open;
//! - who closes an entry first leaves a token there that was never used before, then reads the zone's rows, and closes
//!   the entry only if the token is still there.
//!
//! A row that was written before the rows were read is among them. The insertion of one that was written after comes
//! by after the token was left, and opens the entry: the token is gone, and nobody closes it with what was read. So
//! is the token of whoever closes at the same time and came first. The tests go through every order of the steps.
//!
//! An insertion looks without locking the page. What it must not miss is a token that was left before the rows were
//! read without its own. It does not: rows are read, and were written, under the lock of the table's page, which the
//! writer has taken after the reader let go of it, and with it has all that the reader had written before. And what it
//! looks at is a byte, which nobody can see half written.

/// Pages of the table in a zone.
pub const ZONE: u32 = 32;

/// The least byte of a state. The entry says nothing, its zone may hold anything. Also what a page of zeros says.
const OPEN: u8 = 0;
/// The bounds hold.
const CLOSED: u8 = 1;
/// Somebody closes the entry, whose token the state is. It says as little as `OPEN`.
const CLOSING: u8 = 2;

/// Marks a page of this index, version 1, with the number of columns in the last byte.
const MARK: u64 = 0x7a6f_6e65_6d70_0100;

/// Words at a page's end: its mark, and the last token given out.
pub const TRAILER: usize = 2;

/// The least and the greatest of some values; of none, a least above the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The least.
    pub least: i64,
    /// The greatest.
    pub greatest: i64,
}

impl Bounds {
    /// Of no value.
    pub const NONE: Bounds = Bounds { least: i64::MAX, greatest: i64::MIN };

    /// Takes in a value.
    #[inline(always)]
    pub fn add(&mut self, value: i64) {
        self.least = self.least.min(value);
        self.greatest = self.greatest.max(value);
    }

    /// Whether no value was taken in.
    pub fn is_none(&self) -> bool {
        self.least > self.greatest
    }
}

/// How a page of `words` words is laid out for `columns` columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    columns: usize,
    words: usize,
}

impl Layout {
    /// A page of `words` words, entries for `columns` columns.
    pub const fn new(columns: usize, words: usize) -> Layout {
        Layout { columns, words }
    }

    const fn width(self) -> usize {
        1 + 2 * self.columns
    }

    /// Entries in a page.
    pub const fn per_page(self) -> u32 {
        ((self.words - TRAILER) / self.width()) as u32
    }

    /// The page, and the place in it, of a zone's entry.
    pub const fn place(self, zone: u32) -> (u32, usize) {
        (zone / self.per_page(), (zone % self.per_page()) as usize)
    }

    /// Whether it is a page that was made for this layout.
    pub fn is_of(self, page: &[u64]) -> bool {
        page.len() == self.words && page[self.words - TRAILER] == MARK | self.columns as u64
    }

    /// Makes a page of zeros a page of open entries.
    pub fn init(self, page: &mut [u64]) {
        page[self.words - TRAILER] = MARK | self.columns as u64;
    }

    /// Where the byte lies that is 0 where the entry at `place` is open, and an insertion has nothing to do: bytes from
    /// the first word's first.
    #[inline(always)]
    pub const fn state_byte(self, place: usize) -> usize {
        let least = if cfg!(target_endian = "little") { 0 } else { size_of::<u64>() - 1 };
        place * self.width() * size_of::<u64>() + least
    }

    /// What an insertion does that has written its row. Whether it changed the page.
    pub fn open(self, page: &mut [u64], place: usize) -> bool {
        let state = &mut page[place * self.width()];
        std::mem::replace(state, u64::from(OPEN)) as u8 != OPEN
    }

    /// Leaves a new token in the entries at `places`, whose rows the caller will read.
    pub fn begin(self, page: &mut [u64], places: &[usize]) -> u64 {
        let last = &mut page[self.words - 1];
        *last += 1;
        let token = *last << 8 | u64::from(CLOSING);
        for place in places {
            page[place * self.width()] = token;
        }
        token
    }

    /// Closes the entry at `place` with the bounds of its columns, if `token` is still there. Whether it was.
    pub fn finish(self, page: &mut [u64], place: usize, token: u64, bounds: &[Bounds]) -> bool {
        let entry = &mut page[place * self.width()..][..self.width()];
        if entry[0] != token {
            return false;
        }
        entry[0] = u64::from(CLOSED);
        for (words, b) in entry[1..].chunks_exact_mut(2).zip(bounds) {
            (words[0], words[1]) = (b.least as u64, b.greatest as u64);
        }
        true
    }

    /// Whether the entry at `place` says something.
    pub fn is_closed(self, page: &[u64], place: usize) -> bool {
        page[place * self.width()] as u8 == CLOSED
    }

    /// The bounds of column `n` in the entry at `place`; None where it says nothing.
    #[inline(always)]
    pub fn bounds(self, page: &[u64], place: usize, n: usize) -> Option<Bounds> {
        let entry = &page[place * self.width()..][..self.width()];
        (entry[0] as u8 == CLOSED)
            .then(|| Bounds { least: entry[1 + 2 * n] as i64, greatest: entry[2 + 2 * n] as i64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: usize = 1021;

    fn page(layout: Layout) -> Vec<u64> {
        let mut page = vec![0; WORDS];
        layout.init(&mut page);
        page
    }

    #[test]
    fn entries_have_places_of_their_own() {
        for columns in 1..=32 {
            let layout = Layout::new(columns, WORDS);
            let mut page = page(layout);
            let last = layout.per_page() as usize - 1;
            let bounds = |at: usize| vec![Bounds { least: -(at as i64), greatest: at as i64 }; columns];
            for at in 0..=last {
                let token = layout.begin(&mut page, &[at]);
                assert!(layout.finish(&mut page, at, token, &bounds(at)));
            }
            assert!(layout.is_of(&page) && !Layout::new(columns + 1, WORDS).is_of(&page));
            for at in 0..=last {
                assert_eq!(layout.bounds(&page, at, columns - 1), Some(bounds(at)[0]));
            }
            assert_eq!(layout.place(layout.per_page() * 3 + 1), (3, 1));
            assert!((last + 2) * layout.width() > WORDS - TRAILER, "no room is left");
        }
    }

    /// What an insertion looks at.
    fn is_open(layout: Layout, page: &[u64], place: usize) -> bool {
        let byte = layout.state_byte(place);
        page[byte / 8].to_ne_bytes()[byte % 8] == OPEN
    }

    #[test]
    fn a_page_of_zeros_says_nothing() {
        let layout = Layout::new(2, WORDS);
        let zeros = vec![0; WORDS];
        assert!(is_open(layout, &zeros, 5) && layout.bounds(&zeros, 5, 1).is_none() && !layout.is_of(&zeros));
    }

    #[test]
    fn one_byte_says_whether_an_entry_is_open() {
        let layout = Layout::new(2, WORDS);
        let mut page = page(layout);
        // As many tokens as fill a byte, and go on.
        for _ in 0..600 {
            let token = layout.begin(&mut page, &[3]);
            assert!(!is_open(layout, &page, 3) && !layout.is_closed(&page, 3));
            assert!(layout.open(&mut page, 3) && is_open(layout, &page, 3) && !layout.open(&mut page, 3));
            assert!(!layout.finish(&mut page, 3, token, &[Bounds::NONE; 2]));
            let token = layout.begin(&mut page, &[3]);
            assert!(layout.finish(&mut page, 3, token, &[Bounds::NONE; 2]));
            assert!(!is_open(layout, &page, 3) && layout.is_closed(&page, 3));
        }
        assert!(is_open(layout, &page, 2) && is_open(layout, &page, 4));
    }

    /// A step of a session, of which each has three. An insertion writes its row, looks, and opens what is not open.
    #[derive(Clone)]
    enum Session {
        Insertion { value: i64, step: usize, opens: bool },
        Closing { step: usize, token: u64, read: Bounds },
    }

    #[derive(Clone)]
    struct World {
        page: Vec<u64>,
        rows: Vec<i64>,
        /// Rows whose insertion has seen the entry open, or opened it.
        done: Vec<i64>,
        sessions: Vec<Session>,
    }

    const LAYOUT: Layout = Layout::new(1, 8);

    impl World {
        /// Takes session `n` a step on; false where it has ended.
        fn step(&mut self, n: usize) -> bool {
            match &mut self.sessions[n] {
                Session::Insertion { value, step, opens } => match step {
                    0 => self.rows.push(*value),
                    1 => *opens = !is_open(LAYOUT, &self.page, 0),
                    2 if *opens => _ = LAYOUT.open(&mut self.page, 0),
                    2 => {}
                    _ => return false,
                },
                Session::Closing { step, token, read } => match step {
                    0 => *token = LAYOUT.begin(&mut self.page, &[0]),
                    1 => self.rows.iter().for_each(|v| read.add(*v)),
                    2 => _ = LAYOUT.finish(&mut self.page, 0, *token, &[*read]),
                    _ => return false,
                },
            }
            match &mut self.sessions[n] {
                Session::Insertion { step, .. } | Session::Closing { step, .. } => *step += 1,
            }
            if let Session::Insertion { value, step, opens } = self.sessions[n]
                && step == if opens { 3 } else { 2 }
                && !self.done.contains(&value)
            {
                self.done.push(value);
            }
            true
        }

        fn check(&self) {
            if let Some(b) = LAYOUT.bounds(&self.page, 0, 0) {
                assert!(
                    self.done.iter().all(|v| (b.least..=b.greatest).contains(v)),
                    "{:?} in {b:?}",
                    self.done
                );
            }
        }
    }

    /// Counts the orders of all steps, each of which must keep the invariant after every step.
    fn explore(world: &World, closed: &mut usize) -> usize {
        let mut orders = 0;
        for n in 0..world.sessions.len() {
            let mut next = world.clone();
            if next.step(n) {
                next.check();
                orders += explore(&next, closed);
            }
        }
        if orders == 0 {
            *closed += usize::from(LAYOUT.is_closed(&world.page, 0));
            return 1;
        }
        orders
    }

    #[test]
    fn no_order_of_steps_leaves_a_row_out() {
        let insertion = |value| Session::Insertion { value, step: 0, opens: false };
        let closing = || Session::Closing { step: 0, token: 0, read: Bounds::NONE };
        let mut page = vec![0; 8];
        LAYOUT.init(&mut page);
        let sessions = vec![insertion(10), insertion(-10), closing(), closing()];
        let world = World { page, rows: vec![0], done: vec![0], sessions };
        let mut closed = 0;
        // 12! / (3! 3! 3! 3!)
        assert_eq!(explore(&world, &mut closed), 369_600);
        assert!(closed > 1000, "some orders end with a closed entry: {closed}");
    }
}
