\echo Use "ALTER EXTENSION hll UPDATE TO '2.18'" to load this file. \quit
-- Nothing in SQL changed.
