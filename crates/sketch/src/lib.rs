<<<<<<< HEAD
//! HyperLogLog sketches in the storage format of postgresql-hll (schema version 1).
//!
//! ```text
//! byte 0   version << 4 | type      type: 0 undefined, 1 empty, 2 explicit, 3 sparse, 4 full
//! byte 1   (regwidth - 1) << 5 | log2m
//! byte 2   sparseon << 6 | threshold code      63: automatic, 0: none, k: 2^(k-1)
//! rest     explicit: hashes, 8 bytes big-endian each, ascending as signed numbers
//!          sparse:   (index, value) in log2m + regwidth bits each, ascending index
//!          full:     2^log2m registers of regwidth bits, most significant bit first
//! ```
//! ```
//! use hll_sketch::{Estimator, Heap, Params, Sketch, murmur3};
//! let mut sketch = Sketch::empty(Params::DEFAULT, Heap);
//! for visitor in 0..1000_i64 {
//!     sketch.add(murmur3::hash_i64(visitor, 0));
//! }
//! let estimate = sketch.cardinality(Estimator::Improved).unwrap().unwrap();
//! assert!((estimate - 1000.0).abs() < 60.0);
//! ```
#![forbid(unsafe_code)]
mod bits;
mod codec;
mod error;
mod estimate;
mod memory;
pub mod murmur3;
mod params;
mod sketch;

pub use codec::{Header, Kind, cardinality_of, validate};
pub use error::{Class, Error};
pub use estimate::Estimator;
pub use memory::{Buffer, Heap, Memory};
pub use params::Params;
pub use sketch::Sketch;
=======
//! stub
#![allow(missing_docs, unused_variables, clippy::all)]
#[derive(Clone,Copy,Debug,PartialEq,Eq)] pub struct Params { pub log2m: u8, pub regwidth: u8, pub expthresh: i64, pub sparseon: bool }
impl Params { pub fn new(log2m: i64, regwidth: i64, expthresh: i64, sparseon: i64) -> Result<Params, Error> {todo!()} pub fn from_typmod(_:i32)->Params{todo!()} pub fn to_typmod(&self)->i32{todo!()} pub fn check_same(&self, incoming:&Params)->Result<(),Error>{todo!()} pub fn registers(&self)->usize{0} pub fn explicit_threshold(&self)->usize {0}}
pub trait Memory: Copy { type Words: Buffer<i64>; type Bytes: Buffer<u8>; fn words(&self, capacity: usize)->Self::Words; fn zeroed_bytes(&self, len: usize)->Self::Bytes; }
pub trait Buffer<T>: core::ops::DerefMut<Target=[T]> { fn insert(&mut self, at: usize, value: T); }
#[derive(Clone,Copy,Default,Debug)] pub struct Heap;
pub struct V<T>(Vec<T>);
impl<T> core::ops::Deref for V<T>{type Target=[T]; fn deref(&self)->&[T]{&self.0}}
impl<T> core::ops::DerefMut for V<T>{fn deref_mut(&mut self)->&mut[T]{&mut self.0}}
impl<T> Buffer<T> for V<T>{fn insert(&mut self, at: usize, value: T){}}
impl Memory for Heap{type Words=V<i64>;type Bytes=V<u8>;fn words(&self, capacity: usize)->Self::Words{todo!()} fn zeroed_bytes(&self, len: usize)->Self::Bytes{todo!()}}
pub enum Sketch<M: Memory = Heap>{A(Params,M,M::Words),B(M::Bytes)}
impl<M: Memory> Sketch<M> { pub fn empty(p: Params, m: M)->Self{todo!()} pub fn params(&self)->Params{todo!()} pub fn decode(bytes:&[u8], m: M)->Result<Self,Error>{todo!()} pub fn encode(&self, max_sparse: i32)->Vec<u8>{todo!()} pub fn add(&mut self, hash: i64){} pub fn union(&mut self, other:&Sketch<impl Memory>)->Result<(),Error>{todo!()} pub fn union_bytes(&mut self, bytes:&[u8])->Result<(),Error>{todo!()} pub fn cardinality(&self, e: Estimator)->Result<Option<f64>,Error> {todo!()} pub fn print(&self)->String {todo!()} pub fn to_state_bytes(&self)->Vec<u8>{todo!()} pub fn from_state_bytes(_:&[u8], m: M)->Result<Self,Error> {todo!()}}
#[derive(Clone,Copy,PartialEq,Eq,Debug)] pub enum Estimator { Improved, Classic }
pub enum Kind { Undefined=0, Empty=1, Explicit=2, Sparse=3, Full=4 }
pub struct Header { pub version:u8, pub kind: Kind, pub params: Params } 
pub fn validate(bytes:&[u8])->Result<Header,Error>{todo!()} pub fn cardinality_of(bytes:&[u8], e:Estimator)->Result<Option<f64>,Error>{todo!()}
pub mod murmur3 { pub fn hash(bytes:&[u8], seed:i32)->i64{0} pub fn hash_i64(v:i64,seed:i32)->i64{0} pub fn hash_i32(v:i32,seed:i32)->i64{0} }
#[derive(Debug,Clone,PartialEq,Eq)] pub enum Error {A}
impl core::fmt::Display for Error{fn fmt(&self,f:&mut core::fmt::Formatter<'_>)->core::fmt::Result{Ok(())}}
pub enum Class {InvalidParameter, Data}
impl Error{pub fn class(&self)->Class {Class::Data}}
>>>>>>> face2
