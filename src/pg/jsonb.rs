//! Walking and building jsonb through PostgreSQL's own iterator and builder.
use super::numeric::Num;
use super::v1::Call;
use pgrx::pg_sys::{self, JsonbIteratorToken as T, jbvType};
use std::marker::PhantomData;

/// What a walk over a jsonb document meets.
pub enum Token<'a> {
    /// `{`
    Open,
    /// `}`
    Close,
    /// A key of the current object.
    Key(&'a [u8]),
    /// A number, as a value.
    Number(Num),
    /// Anything that no counter holds, by name. The walk must stop here.
    Other(&'static str),
    /// The document is over.
    Done,
}

/// A walk over one jsonb argument.
pub struct Walk<'a> {
    iterator: *mut pg_sys::JsonbIterator,
    document: PhantomData<&'a [u8]>,
}

impl<'a> Walk<'a> {
    /// Starts at the root of argument `n`, declared jsonb in SQL; None where it is NULL.
    pub fn arg(call: &Call, n: usize) -> Option<Walk<'a>> {
        let datum = call.arg(n)?;
        // SAFETY: the declaration says jsonb; the de-toasted copy lives for the call.
        unsafe {
            let jsonb = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
            Some(Walk { iterator: pg_sys::JsonbIteratorInit(&raw mut (*jsonb).root), document: PhantomData })
        }
    }

    /// The next token; what it points at lies in the document, not in the iterator.
    pub fn step(&mut self) -> Token<'a> {
        // SAFETY: the iterator is live until WJB_DONE, after which it is NULL and gives WJB_DONE again. The
        // union field read is the one that the value's type names.
        unsafe {
            let mut v: pg_sys::JsonbValue = std::mem::zeroed();
            match pg_sys::JsonbIteratorNext(&mut self.iterator, &mut v, false) {
                T::WJB_BEGIN_OBJECT => Token::Open,
                T::WJB_END_OBJECT => Token::Close,
                T::WJB_DONE => Token::Done,
                T::WJB_KEY => Token::Key(std::slice::from_raw_parts(
                    v.val.string.val.cast::<u8>(),
                    v.val.string.len as usize,
                )),
                T::WJB_BEGIN_ARRAY if v.val.array.rawScalar => Token::Other("a scalar"),
                T::WJB_BEGIN_ARRAY => Token::Other("an array"),
                _ => match v.type_ {
                    jbvType::jbvNumeric => Token::Number(Num::new(v.val.numeric)),
                    jbvType::jbvNull => Token::Other("null"),
                    jbvType::jbvString => Token::Other("a string"),
                    jbvType::jbvBool => Token::Other("a boolean"),
                    _ => Token::Other("an unexpected value"),
                },
            }
        }
    }
}

/// A jsonb document under construction, in the current memory context.
pub struct Build {
    state: *mut pg_sys::JsonbParseState,
    result: *mut pg_sys::JsonbValue,
}

impl Build {
    /// Starts an empty document.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Build {
        Build { state: std::ptr::null_mut(), result: std::ptr::null_mut() }
    }

    fn push(&mut self, token: T::Type, value: Option<&mut pg_sys::JsonbValue>) {
        let value = value.map_or(std::ptr::null_mut(), |v| v as *mut _);
        // SAFETY: pushJsonbValue copies the value, not what it points at; see `key` and `number`.
        self.result = unsafe { pg_sys::pushJsonbValue(&mut self.state, token, value) };
    }

    /// `{`
    pub fn open(&mut self) {
        self.push(T::WJB_BEGIN_OBJECT, None);
    }

    /// `}`
    pub fn close(&mut self) {
        self.push(T::WJB_END_OBJECT, None);
    }

    /// A key; its bytes must stay until `finish`, as those of a state do.
    pub fn key(&mut self, key: &[u8]) {
        // SAFETY: all-zero is a valid JsonbValue; the fields set are those of a string.
        let mut v: pg_sys::JsonbValue = unsafe { std::mem::zeroed() };
        v.type_ = jbvType::jbvString;
        v.val.string.len = key.len() as i32;
        v.val.string.val = key.as_ptr().cast_mut().cast();
        self.push(T::WJB_KEY, Some(&mut v));
    }

    /// A number as the value of the last key.
    pub fn number(&mut self, number: Num) {
        // SAFETY: all-zero is a valid JsonbValue; the field set is that of a numeric.
        let mut v: pg_sys::JsonbValue = unsafe { std::mem::zeroed() };
        v.type_ = jbvType::jbvNumeric;
        v.val.numeric = number.raw();
        self.push(T::WJB_VALUE, Some(&mut v));
    }

    /// The finished document as a datum.
    pub fn finish(self) -> pg_sys::Datum {
        assert!(!self.result.is_null() && self.state.is_null(), "unbalanced jsonb");
        // SAFETY: the last `close` returned the complete root object.
        pg_sys::Datum::from(unsafe { pg_sys::JsonbValueToJsonb(self.result) })
    }
}
