-- The payments that the models read: your own table may look as it likes, only registry.yaml and models.py name it.
create schema if not exists shop;
create table if not exists shop.payments (
    payment_id text primary key,
    paid_at timestamptz not null,
    card text not null,
    amount numeric(12, 2) not null check (amount > 0),
    country char(2) not null,
    loaded_at timestamptz not null default clock_timestamp()
);
create index if not exists payments_by_time on shop.payments (paid_at);
create index if not exists payments_by_card on shop.payments (card, paid_at);
