"""The schema of the vault, version by version; written so that every store understands it (see ``store``)."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE changes (id INTEGER PRIMARY KEY CHECK (id = 1), sequence BIGINT NOT NULL)",
        "INSERT INTO changes (id, sequence) VALUES (1, 0)",
        """CREATE TABLE data_keys (
            key_id TEXT PRIMARY KEY,
            master_id TEXT NOT NULL,
            wrapped BYTEA NOT NULL,
            messages BIGINT NOT NULL DEFAULT 0,
            is_active INTEGER NOT NULL,
            created_at BIGINT NOT NULL)""",
        "CREATE UNIQUE INDEX data_keys_active ON data_keys (is_active) WHERE is_active = 1",
        "CREATE TABLE canary (id INTEGER PRIMARY KEY CHECK (id = 1), sealed BYTEA NOT NULL)",
        """CREATE TABLE connections (
            connection_id TEXT PRIMARY KEY,
            service TEXT NOT NULL,
            name TEXT NOT NULL,
            is_default INTEGER NOT NULL,
            state TEXT NOT NULL,
            cause TEXT,
            account TEXT,
            scopes TEXT NOT NULL,
            config TEXT,
            metadata TEXT NOT NULL,
            scheme TEXT,
            access_token BYTEA NOT NULL,
            refresh_token BYTEA,
            access_key_id TEXT NOT NULL REFERENCES data_keys (key_id),
            refresh_key_id TEXT REFERENCES data_keys (key_id),
            expires_at BIGINT,
            generation BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            updated_at BIGINT NOT NULL,
            sequence BIGINT NOT NULL,
            UNIQUE (service, name))""",
        "CREATE UNIQUE INDEX connections_default ON connections (service) WHERE is_default = 1",
        "CREATE INDEX connections_sequence ON connections (sequence)",
        """CREATE TABLE keys (
            key_id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            digest BYTEA NOT NULL,
            permits TEXT NOT NULL,
            kind TEXT NOT NULL,
            root TEXT,
            networks TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            expires_at BIGINT,
            revoked_at BIGINT,
            last_used_at BIGINT,
            sequence BIGINT NOT NULL)""",
        "CREATE INDEX keys_sequence ON keys (sequence)",
        """CREATE TABLE audit (
            audit_id TEXT PRIMARY KEY,
            at BIGINT NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            subject TEXT NOT NULL,
            detail TEXT NOT NULL)""",
        "CREATE INDEX audit_at ON audit (at)",
    ),
    (
        # what the answer of the provider told besides the tokens, and a fingerprint of the grant
        "ALTER TABLE connections ADD COLUMN registration TEXT",
        "ALTER TABLE connections ADD COLUMN asked_scopes TEXT",
        "ALTER TABLE connections ADD COLUMN issued_at BIGINT",
        "ALTER TABLE connections ADD COLUMN refresh_expires_at BIGINT",
        "ALTER TABLE connections ADD COLUMN grant_mark BYTEA",
        "CREATE INDEX connections_grant_mark ON connections (grant_mark)",
        # which database this is: a copy finds another incarnation than its own and refreshes nothing
        """CREATE TABLE identity (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            incarnation TEXT NOT NULL,
            mark_key BYTEA NOT NULL,
            mark_key_id TEXT NOT NULL REFERENCES data_keys (key_id),
            adopted_at BIGINT NOT NULL)""",
        # one row a connection: who refreshes it now, what the last attempts came to
        """CREATE TABLE refreshes (
            connection_id TEXT PRIMARY KEY REFERENCES connections (connection_id) ON DELETE CASCADE,
            fence BIGINT NOT NULL DEFAULT 0,
            owner TEXT,
            beat BIGINT NOT NULL DEFAULT 0,
            attempt_id TEXT,
            attempt_mark BYTEA,
            attempt_generation BIGINT,
            attempted_at BIGINT,
            unknowns INTEGER NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            retry_at BIGINT,
            last_error TEXT,
            forced_at BIGINT,
            refreshed_at BIGINT)""",
        """CREATE TABLE registrations (
            registration_id TEXT PRIMARY KEY,
            family TEXT NOT NULL,
            client_id TEXT NOT NULL,
            client_secret BYTEA,
            secret_key_id TEXT REFERENCES data_keys (key_id),
            created_at BIGINT NOT NULL,
            updated_at BIGINT NOT NULL)""",
        # attempts to connect an account; digests only of what a person or provider brings back
        """CREATE TABLE flows (
            flow_id TEXT PRIMARY KEY,
            service TEXT NOT NULL,
            name TEXT NOT NULL,
            registration TEXT NOT NULL,
            stage TEXT NOT NULL,
            outcome TEXT,
            link_digest BYTEA UNIQUE,
            state_digest BYTEA UNIQUE,
            browser_digest BYTEA,
            sealed BYTEA,
            sealed_key_id TEXT REFERENCES data_keys (key_id),
            created_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL)""",
        "CREATE INDEX flows_expires_at ON flows (expires_at)",
        # news for the operator's webhook that has not been delivered
        """CREATE TABLE notices (
            notice_id TEXT PRIMARY KEY,
            at BIGINT NOT NULL,
            body TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            next_at BIGINT NOT NULL)""",
        # the person who signs in to the control plane, and browsers that are signed in
        """CREATE TABLE admin (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            password TEXT NOT NULL,
            changed_at BIGINT NOT NULL)""",
        """CREATE TABLE sessions (
            session_digest BYTEA PRIMARY KEY,
            created_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL)""",
    ),
    (
        # tokens of the admin API; digests only, as of keys
        """CREATE TABLE admin_tokens (
            token_id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            digest BYTEA NOT NULL,
            scopes TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            expires_at BIGINT,
            revoked_at BIGINT,
            last_used_at BIGINT)""",
        # creations that a caller may repeat: the answer is sealed with what only that caller has
        """CREATE TABLE idempotency (
            key_digest BYTEA PRIMARY KEY,
            request_digest BYTEA NOT NULL,
            sealed BYTEA,
            expires_at BIGINT NOT NULL)""",
        "CREATE INDEX idempotency_expires_at ON idempotency (expires_at)",
    ),
    (
        # limits of keys; a release that does not know them does not hold anybody to them
        "ALTER TABLE keys ADD COLUMN rate TEXT",
        "ALTER TABLE keys ADD COLUMN concurrency INTEGER",
    ),
    (
        # people besides the first one, who is the row of admin
        """CREATE TABLE users (
            name TEXT PRIMARY KEY,
            role TEXT NOT NULL,
            email TEXT UNIQUE,
            password TEXT,
            created_at BIGINT NOT NULL)""",
        "ALTER TABLE sessions ADD COLUMN user_name TEXT NOT NULL DEFAULT 'admin'",
    ),
    (
        # the chain over the audit; a release that does not know it leaves its rows out of it
        "ALTER TABLE audit ADD COLUMN number BIGINT",
        "ALTER TABLE audit ADD COLUMN chained TEXT",
        "ALTER TABLE audit ADD COLUMN hash BYTEA",
        "CREATE INDEX audit_number ON audit (number)",  # not unique: a forged row must not stop real ones
        """CREATE TABLE audit_chain (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            number BIGINT NOT NULL,
            hash BYTEA NOT NULL,
            pruned BIGINT NOT NULL,
            pruned_hash BYTEA NOT NULL,
            begun_at BIGINT NOT NULL,
            mac BYTEA NOT NULL)""",
    ),
    (
        # the account at an identity provider that a user's mail address was first seen with
        "ALTER TABLE users ADD COLUMN known_as TEXT",
    ),
    (
        # seals on rows that say who may do what; what an older release writes has none, and is not in force
        *(
            f"ALTER TABLE {table} ADD COLUMN {column}"
            for table in ("keys", "admin_tokens", "users", "admin", "sessions")
            for column in ("row_seal BYTEA", "row_seal_key_id TEXT REFERENCES data_keys (key_id)")
        ),
        # when the rows of a vault without seals were sealed
        "CREATE TABLE row_seals (id INTEGER PRIMARY KEY CHECK (id = 1), begun_at BIGINT NOT NULL)",
    ),
    (
        # what observing permits would have refused
        """CREATE TABLE observed (
            key_id TEXT NOT NULL,
            service TEXT NOT NULL,
            method TEXT NOT NULL,
            path TEXT NOT NULL,
            requests BIGINT NOT NULL,
            first_at BIGINT NOT NULL,
            last_at BIGINT NOT NULL,
            PRIMARY KEY (key_id, service, method, path))""",
    ),
    (
        # what keys did today; told to the audit when the day is over
        """CREATE TABLE key_days (
            day TEXT NOT NULL,
            key_id TEXT NOT NULL,
            service TEXT NOT NULL,
            connection TEXT NOT NULL,
            method TEXT NOT NULL,
            outcome TEXT NOT NULL,
            requests BIGINT NOT NULL,
            PRIMARY KEY (day, key_id, service, connection, method, outcome))""",
    ),
)
"""One entry a schema version, oldest first. Entries are never changed after a release, only added."""

OLDEST_RELEASE = 1
"""The oldest schema version whose code may still run on the newest schema; raised when a change contracts."""
