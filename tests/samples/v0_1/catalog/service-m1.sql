BEGIN TRANSACTION;
CREATE TABLE application_versions (
    version_id TEXT NOT NULL PRIMARY KEY,
    version_name TEXT NOT NULL UNIQUE,
    version_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
, "application_name" TEXT DEFAULT NULL);
INSERT INTO "application_versions" VALUES('87973426-5b9d-4e6f-9d79-be610017856b','replicate-1',1796064211000,1796064211000,'vreplica');
CREATE TABLE dbos_migrations (version INTEGER NOT NULL PRIMARY KEY);
INSERT INTO "dbos_migrations" VALUES(125);
CREATE TABLE notifications (
    message_uuid TEXT NOT NULL DEFAULT (hex(randomblob(16))) PRIMARY KEY,
    destination_uuid TEXT NOT NULL,
    topic TEXT,
    message TEXT NOT NULL,
    created_at_epoch_ms INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000), "serialization" TEXT DEFAULT NULL, "consumed" BOOLEAN NOT NULL DEFAULT FALSE, consumed_by_function_id INTEGER,
    FOREIGN KEY (destination_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE "operation_outputs" (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    function_name TEXT NOT NULL DEFAULT '',
    output TEXT,
    error TEXT,
    child_workflow_id TEXT,
    started_at_epoch_ms INTEGER,
    completed_at_epoch_ms INTEGER,
    serialization TEXT,
    application_name TEXT DEFAULT NULL,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    PRIMARY KEY (workflow_uuid, function_id)
);
INSERT INTO "operation_outputs" VALUES('20261130T184331Z-b73a98',1,'execute','"failed"',NULL,NULL,1796064213441,1796064213613,'vreplica-json','vreplica',1796064213000);
INSERT INTO "operation_outputs" VALUES('20261130T184331Z-590b28',1,'execute','"done"',NULL,NULL,1796064213433,1796064214547,'vreplica-json','vreplica',1796064214000);
INSERT INTO "operation_outputs" VALUES('20261130T184331Z-cde2c6',1,'execute','"done"',NULL,NULL,1796064213432,1796064214574,'vreplica-json','vreplica',1796064214000);
INSERT INTO "operation_outputs" VALUES('20261130T184405Z-39b23a',1,'execute','"done"',NULL,NULL,1796064246732,1796064247259,'vreplica-json','vreplica',1796064247000);
INSERT INTO "operation_outputs" VALUES('20261130T184405Z-1ff252',1,'execute','"done"',NULL,NULL,1796064246734,1796064247281,'vreplica-json','vreplica',1796064247000);
INSERT INTO "operation_outputs" VALUES('fo-20261130T184408Z-fae130@m1',1,'event','{"more": true}',NULL,NULL,1796064248910,1796064248962,'vreplica-json','vreplica',1796064248000);
INSERT INTO "operation_outputs" VALUES('fo-20261130T184408Z-fae130@m1',2,'event','{"more": true}',NULL,NULL,1796064248964,1796064248987,'vreplica-json','vreplica',1796064248000);
INSERT INTO "operation_outputs" VALUES('fo-20261130T184408Z-fae130@m1',3,'event','{"more": true}',NULL,NULL,1796064248989,1796064249011,'vreplica-json','vreplica',1796064249000);
INSERT INTO "operation_outputs" VALUES('fo-20261130T184408Z-fae130@m1',4,'event','{"more": true}',NULL,NULL,1796064249013,1796064249049,'vreplica-json','vreplica',1796064249000);
INSERT INTO "operation_outputs" VALUES('fo-20261130T184408Z-fae130@m1',5,'event','{"more": true}',NULL,NULL,1796064249051,1796064249241,'vreplica-json','vreplica',1796064249000);
INSERT INTO "operation_outputs" VALUES('fo-20261130T184408Z-fae130@m1',6,'event','{"more": true}',NULL,NULL,1796064249242,1796064249260,'vreplica-json','vreplica',1796064249000);
INSERT INTO "operation_outputs" VALUES('fo-20261130T184408Z-fae130@m1',7,'event','{"more": false}',NULL,NULL,1796064249261,1796064249262,'vreplica-json','vreplica',1796064249000);
INSERT INTO "operation_outputs" VALUES('fo-20261130T184408Z-fae130@m1',8,'settle','"done"',NULL,NULL,1796064249263,1796064249292,'vreplica-json','vreplica',1796064249000);
INSERT INTO "operation_outputs" VALUES('20261130T184440Z-b328eb',1,'execute','"failed"',NULL,NULL,1796064280911,1796064280939,'vreplica-json','vreplica',1796064280000);
INSERT INTO "operation_outputs" VALUES('fo-20261130T184416Z-dabbf0@m1',1,'event','{"more": true}',NULL,NULL,1796064281009,1796064281016,'vreplica-json','vreplica',1796064281000);
INSERT INTO "operation_outputs" VALUES('fo-20261130T184416Z-dabbf0@m1',2,'event','{"more": true}',NULL,NULL,1796064281017,1796064281450,'vreplica-json','vreplica',1796064281000);
INSERT INTO "operation_outputs" VALUES('fo-20261130T184416Z-dabbf0@m1',3,'event','{"more": true}',NULL,NULL,1796064281452,1796064281465,'vreplica-json','vreplica',1796064281000);
CREATE TABLE queues (
    queue_id TEXT PRIMARY KEY DEFAULT (hex(randomblob(16))),
    name TEXT NOT NULL UNIQUE,
    concurrency INTEGER,
    worker_concurrency INTEGER,
    rate_limit_max INTEGER,
    rate_limit_period_sec REAL,
    priority_enabled BOOLEAN NOT NULL DEFAULT FALSE,
    partition_queue BOOLEAN NOT NULL DEFAULT FALSE,
    polling_interval_sec REAL NOT NULL DEFAULT 1.0,
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    updated_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
, "application_name" TEXT DEFAULT NULL, "partition_concurrency" INTEGER DEFAULT NULL, "partition_worker_concurrency" INTEGER DEFAULT NULL, "partition_rate_limit_max" INTEGER DEFAULT NULL, "partition_rate_limit_period_sec" REAL DEFAULT NULL);
INSERT INTO "queues" VALUES('98647034CEBFE65856DB7EC5571E1631','mover-m1',NULL,8,NULL,NULL,1,0,1.0,1796064211000,1796064211442,'vreplica',NULL,NULL,NULL,NULL);
INSERT INTO "queues" VALUES('4670A7E39B5CA91A4F7310C5F81CB0A9','failovers-m1',NULL,16,NULL,NULL,1,0,1.0,1796064211000,1796064211457,'vreplica',NULL,NULL,NULL,NULL);
CREATE TABLE streams (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    "offset" INTEGER NOT NULL, function_id INTEGER NOT NULL DEFAULT 0, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, key, "offset"),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_events (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, key),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_events_history (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, function_id, key),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid)
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_input (
    workflow_uuid TEXT NOT NULL PRIMARY KEY,
    inputs TEXT,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
);
INSERT INTO "workflow_input" VALUES('20261130T184331Z-cde2c6','{"args": ["20261130T184331Z-cde2c6"], "kwargs": {}}',1796064211000);
INSERT INTO "workflow_input" VALUES('20261130T184331Z-590b28','{"args": ["20261130T184331Z-590b28"], "kwargs": {}}',1796064211000);
INSERT INTO "workflow_input" VALUES('20261130T184331Z-b73a98','{"args": ["20261130T184331Z-b73a98"], "kwargs": {}}',1796064211000);
INSERT INTO "workflow_input" VALUES('20261130T184405Z-39b23a','{"args": ["20261130T184405Z-39b23a"], "kwargs": {}}',1796064245000);
INSERT INTO "workflow_input" VALUES('20261130T184405Z-1ff252','{"args": ["20261130T184405Z-1ff252"], "kwargs": {}}',1796064245000);
INSERT INTO "workflow_input" VALUES('fo-20261130T184408Z-fae130@m1','{"args": ["fo-20261130T184408Z-fae130"], "kwargs": {}}',1796064248000);
INSERT INTO "workflow_input" VALUES('fo-20261130T184416Z-dabbf0@m1','{"args": ["fo-20261130T184416Z-dabbf0"], "kwargs": {}}',1796064280000);
INSERT INTO "workflow_input" VALUES('20261130T184440Z-b328eb','{"args": ["20261130T184440Z-b328eb"], "kwargs": {}}',1796064280000);
CREATE TABLE workflow_output (
    workflow_uuid TEXT NOT NULL PRIMARY KEY,
    output TEXT,
    error TEXT,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
);
INSERT INTO "workflow_output" VALUES('20261130T184331Z-b73a98','"failed"',NULL,1796064213000);
INSERT INTO "workflow_output" VALUES('20261130T184331Z-590b28','"done"',NULL,1796064214000);
INSERT INTO "workflow_output" VALUES('20261130T184331Z-cde2c6','"done"',NULL,1796064214000);
INSERT INTO "workflow_output" VALUES('20261130T184405Z-39b23a','"done"',NULL,1796064247000);
INSERT INTO "workflow_output" VALUES('20261130T184405Z-1ff252','"done"',NULL,1796064247000);
INSERT INTO "workflow_output" VALUES('fo-20261130T184408Z-fae130@m1','"done"',NULL,1796064249000);
INSERT INTO "workflow_output" VALUES('20261130T184440Z-b328eb','"failed"',NULL,1796064280000);
CREATE TABLE workflow_schedules (
    schedule_id TEXT PRIMARY KEY,
    schedule_name TEXT NOT NULL UNIQUE,
    workflow_name TEXT NOT NULL,
    workflow_class_name TEXT,
    schedule TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'ACTIVE',
    context TEXT NOT NULL
, "last_fired_at" TEXT DEFAULT NULL, "automatic_backfill" BOOLEAN NOT NULL DEFAULT FALSE, "cron_timezone" TEXT DEFAULT NULL, "queue_name" TEXT DEFAULT NULL, "application_name" TEXT DEFAULT NULL);
CREATE TABLE workflow_status (
    workflow_uuid TEXT PRIMARY KEY,
    status TEXT,
    name TEXT,
    authenticated_user TEXT,
    assumed_role TEXT,
    authenticated_roles TEXT,
    request TEXT,
    output TEXT,
    error TEXT,
    executor_id TEXT,
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    updated_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    application_version TEXT,
    application_id TEXT,
    class_name TEXT DEFAULT NULL,
    config_name TEXT DEFAULT NULL,
    recovery_attempts INTEGER DEFAULT 0,
    queue_name TEXT,
    workflow_timeout_ms INTEGER,
    workflow_deadline_epoch_ms INTEGER,
    inputs TEXT,
    started_at_epoch_ms INTEGER,
    deduplication_id TEXT,
    priority INTEGER NOT NULL DEFAULT 0
, queue_partition_key TEXT, forked_from TEXT, "owner_xid" TEXT DEFAULT NULL, "parent_workflow_id" TEXT DEFAULT NULL, "serialization" TEXT DEFAULT NULL, "delay_until_epoch_ms" BIGINT DEFAULT NULL, "was_forked_from" BOOLEAN NOT NULL DEFAULT FALSE, "rate_limited" BOOLEAN NOT NULL DEFAULT FALSE, "completed_at" BIGINT, "attributes" TEXT, "schedule_name" TEXT, "debounce_deadline_epoch_ms" BIGINT DEFAULT NULL, "is_debounced" BOOLEAN NOT NULL DEFAULT FALSE, "application_name" TEXT DEFAULT NULL, "creator_xid" TEXT DEFAULT NULL);
INSERT INTO "workflow_status" VALUES('20261130T184331Z-cde2c6','SUCCESS','replicate',NULL,NULL,NULL,NULL,NULL,NULL,'m1',1796064211000,1796064214000,'replicate-1',NULL,NULL,NULL,1,'mover-m1',NULL,NULL,NULL,1796064213000,NULL,0,NULL,NULL,NULL,NULL,'vreplica-json',NULL,0,0,1796064214000,'null',NULL,NULL,0,'vreplica','115a4f53-37b5-4e25-9738-2784c0fcf93e');
INSERT INTO "workflow_status" VALUES('20261130T184331Z-590b28','SUCCESS','replicate',NULL,NULL,NULL,NULL,NULL,NULL,'m1',1796064211000,1796064214000,'replicate-1',NULL,NULL,NULL,1,'mover-m1',NULL,NULL,NULL,1796064213000,NULL,0,NULL,NULL,NULL,NULL,'vreplica-json',NULL,0,0,1796064214000,'null',NULL,NULL,0,'vreplica','64aa7711-c152-40fe-8246-9591ed2252c3');
INSERT INTO "workflow_status" VALUES('20261130T184331Z-b73a98','SUCCESS','replicate',NULL,NULL,NULL,NULL,NULL,NULL,'m1',1796064211000,1796064213000,'replicate-1',NULL,NULL,NULL,1,'mover-m1',NULL,NULL,NULL,1796064213000,NULL,0,NULL,NULL,NULL,NULL,'vreplica-json',NULL,0,0,1796064213000,'null',NULL,NULL,0,'vreplica','970b54a8-057f-4d3f-94cd-e78a1a82a405');
INSERT INTO "workflow_status" VALUES('20261130T184405Z-39b23a','SUCCESS','replicate',NULL,NULL,NULL,NULL,NULL,NULL,'m1',1796064245000,1796064247000,'replicate-1',NULL,NULL,NULL,1,'mover-m1',NULL,NULL,NULL,1796064246000,NULL,0,NULL,NULL,NULL,NULL,'vreplica-json',NULL,0,0,1796064247000,'null',NULL,NULL,0,'vreplica','66fedb56-8c42-4a24-84c8-b982202add4b');
INSERT INTO "workflow_status" VALUES('20261130T184405Z-1ff252','SUCCESS','replicate',NULL,NULL,NULL,NULL,NULL,NULL,'m1',1796064245000,1796064247000,'replicate-1',NULL,NULL,NULL,1,'mover-m1',NULL,NULL,NULL,1796064246000,NULL,0,NULL,NULL,NULL,NULL,'vreplica-json',NULL,0,0,1796064247000,'null',NULL,NULL,0,'vreplica','108d4c7f-e1f8-433b-9c1a-183e4fcaf11f');
INSERT INTO "workflow_status" VALUES('fo-20261130T184408Z-fae130@m1','SUCCESS','failover',NULL,NULL,NULL,NULL,NULL,NULL,'m1',1796064248000,1796064249000,'replicate-1',NULL,NULL,NULL,1,'failovers-m1',NULL,NULL,NULL,1796064248000,NULL,0,NULL,NULL,NULL,NULL,'vreplica-json',NULL,0,0,1796064249000,'null',NULL,NULL,0,'vreplica','c610d7f9-7161-403f-941c-fdd946a47ded');
INSERT INTO "workflow_status" VALUES('fo-20261130T184416Z-dabbf0@m1','PENDING','failover',NULL,NULL,NULL,NULL,NULL,NULL,'m1',1796064280000,1796064281000,'replicate-1',NULL,NULL,NULL,1,'failovers-m1',NULL,NULL,NULL,1796064281000,NULL,0,NULL,NULL,'18e2a2a5-f150-4df8-a338-4adeed2aa52e',NULL,'vreplica-json',NULL,0,0,NULL,'null',NULL,NULL,0,'vreplica','7c28cbcc-3cc9-4d0a-9e8d-15d036a97322');
INSERT INTO "workflow_status" VALUES('20261130T184440Z-b328eb','SUCCESS','replicate',NULL,NULL,NULL,NULL,NULL,NULL,'m1',1796064280000,1796064280000,'replicate-1',NULL,NULL,NULL,1,'mover-m1',NULL,NULL,NULL,1796064280000,NULL,0,NULL,NULL,NULL,NULL,'vreplica-json',NULL,0,0,1796064280000,'null',NULL,NULL,0,'vreplica','d8a91368-e572-4b8d-b042-3bd1384ebcca');
CREATE INDEX workflow_status_created_at_index ON workflow_status (created_at);
CREATE INDEX idx_workflow_topic ON notifications (destination_uuid, topic);
CREATE INDEX "idx_workflow_status_delayed" ON "workflow_status" ("delay_until_epoch_ms") WHERE status = 'DELAYED';
CREATE INDEX "idx_workflow_status_forked_from" ON "workflow_status" ("forked_from") WHERE "forked_from" IS NOT NULL;
CREATE INDEX "idx_workflow_status_parent_workflow_id" ON "workflow_status" ("parent_workflow_id") WHERE "parent_workflow_id" IS NOT NULL;
CREATE UNIQUE INDEX "uq_workflow_status_dedup_id" ON "workflow_status" ("queue_name", "deduplication_id") WHERE "deduplication_id" IS NOT NULL;
CREATE INDEX "idx_workflow_status_pending" ON "workflow_status" ("created_at") WHERE "status" = 'PENDING';
CREATE INDEX "idx_workflow_status_failed" ON "workflow_status" ("status", "created_at") WHERE "status" IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED');
CREATE INDEX "idx_workflow_status_rate_limited" ON "workflow_status" ("queue_name", "started_at_epoch_ms") WHERE "rate_limited" = TRUE;
CREATE INDEX "idx_workflow_status_completed_at" ON "workflow_status" ("completed_at") WHERE "completed_at" IS NOT NULL;
CREATE INDEX "idx_workflow_status_started_at" ON "workflow_status" ("started_at_epoch_ms") WHERE "started_at_epoch_ms" IS NOT NULL;
CREATE INDEX "idx_workflow_status_schedule_name" ON "workflow_status" ("schedule_name") WHERE "schedule_name" IS NOT NULL;
CREATE UNIQUE INDEX "uq_application_versions_owner_version"
    ON application_versions ("application_name", "version_name")
    WHERE "application_name" IS NOT NULL;
CREATE UNIQUE INDEX "uq_application_versions_unclaimed_version"
    ON application_versions ("version_name")
    WHERE "application_name" IS NULL;
CREATE INDEX idx_workflow_input_retention
    ON workflow_input (retention_timestamp);
CREATE INDEX idx_workflow_output_retention
    ON workflow_output (retention_timestamp);
CREATE INDEX idx_operation_outputs_retention
    ON operation_outputs (retention_timestamp);
CREATE INDEX "idx_workflow_status_in_flight_v2" ON "workflow_status" ("queue_name", "status", "priority", "created_at", "application_name") WHERE "status" IN ('ENQUEUED', 'PENDING');
CREATE INDEX "idx_workflow_status_partition_dequeue_v3" ON "workflow_status" ("queue_name", "status", "queue_partition_key", "priority", "created_at", "workflow_uuid", "application_name") WHERE "status" IN ('ENQUEUED', 'PENDING') AND "queue_partition_key" IS NOT NULL;
CREATE INDEX "idx_operation_outputs_completed_at_function_name_v2" ON "operation_outputs" ("completed_at_epoch_ms", "function_name", "application_name");
CREATE INDEX "idx_workflow_status_deadline" ON "workflow_status" ("workflow_deadline_epoch_ms") WHERE "status" IN ('ENQUEUED', 'PENDING', 'DELAYED') AND "workflow_deadline_epoch_ms" IS NOT NULL;
CREATE INDEX "idx_application_versions_timestamp" ON "application_versions" ("version_timestamp" DESC);
CREATE INDEX "idx_application_versions_owner_timestamp" ON "application_versions" ("application_name", "version_timestamp" DESC);
COMMIT;
