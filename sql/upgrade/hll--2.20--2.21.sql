\echo Use "ALTER EXTENSION hll UPDATE TO '2.21'" to load this file. \quit
-- Nothing in SQL changed.
