BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE vr_audit (
	n INTEGER NOT NULL, 
	time VARCHAR(32) NOT NULL, 
	who VARCHAR(120) NOT NULL, 
	what VARCHAR(60) NOT NULL, 
	job VARCHAR(80), 
	data JSON NOT NULL, 
	PRIMARY KEY (n)
);
INSERT INTO "vr_audit" VALUES(1,'2026-11-30T18:43:33.597866+00:00','m1','run failed','gone01','{"run": "20261130T184331Z-b73a98", "error": "there is no VM ''gone01'' in 127.0.0.1"}');
INSERT INTO "vr_audit" VALUES(2,'2026-11-30T18:43:34.535228+00:00','m1','run done','web01','{"run": "20261130T184331Z-590b28"}');
INSERT INTO "vr_audit" VALUES(3,'2026-11-30T18:43:34.549488+00:00','m1','run done','db01','{"run": "20261130T184331Z-cde2c6"}');
INSERT INTO "vr_audit" VALUES(4,'2026-11-30T18:44:07.240196+00:00','m1','run done','db01','{"run": "20261130T184405Z-39b23a"}');
INSERT INTO "vr_audit" VALUES(5,'2026-11-30T18:44:07.272730+00:00','m1','run done','web01','{"run": "20261130T184405Z-1ff252"}');
INSERT INTO "vr_audit" VALUES(6,'2026-11-30T18:44:08.095007+00:00','root','failover asked','web01','{"run": "fo-20261130T184408Z-fae130", "order": "begin"}');
INSERT INTO "vr_audit" VALUES(7,'2026-11-30T18:44:09.269185+00:00','m1','failover done','web01','{"run": "fo-20261130T184408Z-fae130", "order": "begin", "failover": "fo-20261130T184408Z-fae130", "state": "running"}');
INSERT INTO "vr_audit" VALUES(8,'2026-11-30T18:44:10.515219+00:00','root','job paused','db01','{}');
INSERT INTO "vr_audit" VALUES(9,'2026-11-30T18:44:16.559796+00:00','root','failover asked','db01','{"run": "fo-20261130T184416Z-dabbf0", "order": "begin"}');
INSERT INTO "vr_audit" VALUES(10,'2026-11-30T18:44:40.937347+00:00','m1','run failed','gone01','{"run": "20261130T184440Z-b328eb", "error": "there is no VM ''gone01'' in 127.0.0.1"}');
INSERT INTO "vr_audit" VALUES(11,'2026-11-30T18:44:43.081782+00:00','alice','failover asked','web01','{"order": "or-20261130T184443Z-13fbc6", "do": "commit"}');
INSERT INTO "vr_audit" VALUES(12,'2026-11-30T22:46:00.000000+00:00','alice@dr1','run done by hand','db01','{"run": "20261130T224500Z-0a0b0c", "state": "done", "by_hand": true, "point": "20261130T224500Z-0a0b0c", "taken": "2026-11-30T22:45:00+00:00", "level": "crash"}');
INSERT INTO "vr_audit" VALUES(13,'2026-11-30T22:47:00.000000+00:00','alice@dr1','run failed by hand','gone01','{"run": "hand-20261130T224700Z-1a1b1c", "state": "failed", "by_hand": true, "error": "there is no VM ''gone01'' in 127.0.0.1"}');
INSERT INTO "vr_audit" VALUES(14,'2026-11-30T22:48:00.000000+00:00','bob@dr1','commit by hand','web01','{"run": "hand-20261130T224800Z-2a2b2c", "state": "running", "by_hand": true, "failover": "x", "error": "the replica does not answer"}');
CREATE TABLE vr_by_hand (
	id VARCHAR(120) NOT NULL, 
	what VARCHAR(20) NOT NULL, 
	job VARCHAR(80) NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	who VARCHAR(200) NOT NULL, 
	began VARCHAR(32) NOT NULL, 
	ended VARCHAR(32) NOT NULL, 
	result JSON NOT NULL, 
	error TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "vr_by_hand" VALUES('20261130T224500Z-0a0b0c','run','db01','done','alice@dr1','2026-11-30T22:45:00.000000+00:00','2026-11-30T22:46:00.000000+00:00','{"point": "20261130T224500Z-0a0b0c", "taken": "2026-11-30T22:45:00+00:00", "level": "crash"}',NULL);
INSERT INTO "vr_by_hand" VALUES('hand-20261130T224700Z-1a1b1c','run','gone01','failed','alice@dr1','2026-11-30T22:47:00.000000+00:00','2026-11-30T22:47:00.000000+00:00','{}','there is no VM ''gone01'' in 127.0.0.1');
INSERT INTO "vr_by_hand" VALUES('hand-20261130T224800Z-2a2b2c','commit','web01','failed','bob@dr1','2026-11-30T22:48:00.000000+00:00','2026-11-30T22:48:00.000000+00:00','{"failover": "x", "state": "running"}','the replica does not answer');
CREATE TABLE vr_failover (
	id VARCHAR(60) NOT NULL, 
	job VARCHAR(80) NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	seen VARCHAR(32) NOT NULL, 
	facts JSON NOT NULL, 
	CONSTRAINT vr_failover_id_job PRIMARY KEY (id, job)
);
INSERT INTO "vr_failover" VALUES('fo-20261130T184408Z-fae130','web01','running','2026-11-30T18:44:09.267862+00:00','{"source": "powered off", "off_level": "crash", "use_a": false, "off_since": "2026-11-30T18:44:08.982384+00:00", "point": "20261130T184405Z-1ff252", "level": "crash", "answered": true}');
INSERT INTO "vr_failover" VALUES('fo-20261130T184416Z-dabbf0','db01','shutting-down','2026-11-30T18:44:41.464248+00:00','{"point_a": "fo-20261130T184416Z-dabbf0-a", "level_a": "crash"}');
INSERT INTO "vr_failover" VALUES('fo-20261130T224100Z-a1b2c3','shop-db','running','2026-11-30T22:50:00.000000+00:00','{}');
INSERT INTO "vr_failover" VALUES('fo-20261130T224100Z-a1b2c3','shop-web','synced','2026-11-30T22:50:00.000000+00:00','{}');
CREATE TABLE vr_job (
	name VARCHAR(80) NOT NULL, 
	since VARCHAR(32) NOT NULL, 
	paused BOOLEAN NOT NULL, 
	epoch INTEGER NOT NULL, 
	last_start VARCHAR(32), 
	last_end VARCHAR(32), 
	failures INTEGER NOT NULL, 
	point_time VARCHAR(32), 
	durations_s JSON NOT NULL, 
	holds JSON NOT NULL, 
	mover VARCHAR(120), 
	alarm VARCHAR(40), off VARCHAR(60), 
	PRIMARY KEY (name)
);
INSERT INTO "vr_job" VALUES('web01','2026-11-30T18:43:31.582673+00:00',0,3,'2026-11-30T18:44:05.708907+00:00','2026-11-30T18:44:07.271900+00:00',0,'2026-11-30T18:44:06.876867+00:00','[0.9878282060000174, 0.47810381800002233]','["host:site-a/esx1.site-a.lab", "datastore:site-a/site-a-ds1", "host:site-b/esx1.site-b.lab", "datastore:site-b/site-b-ds1"]','m1',NULL,'fo-20261130T184408Z-fae130');
INSERT INTO "vr_job" VALUES('db01','2026-11-30T18:43:31.582673+00:00',1,3,'2026-11-30T18:44:05.708907+00:00','2026-11-30T18:44:07.238411+00:00',0,'2026-11-30T18:44:06.865445+00:00','[0.9014904959999512, 0.4699981869999874]','["host:site-a/esx1.site-a.lab", "datastore:site-a/site-a-ds1", "host:site-b/esx1.site-b.lab", "datastore:site-b/site-b-ds1"]','m1',NULL,'fo-20261130T184416Z-dabbf0');
INSERT INTO "vr_job" VALUES('gone01','2026-11-30T18:43:31.582673+00:00',0,2,'2026-11-30T18:44:40.340275+00:00','2026-11-30T18:44:40.936299+00:00',2,NULL,'[]','["host:site-b/esx1.site-b.lab", "datastore:site-b/site-b-ds1"]','m1',NULL,NULL);
INSERT INTO "vr_job" VALUES('shop-db','2026-11-30T22:50:00.000000+00:00',0,0,NULL,NULL,0,NULL,'[]','[]',NULL,NULL,'fo-20261130T224100Z-a1b2c3');
INSERT INTO "vr_job" VALUES('shop-web','2026-11-30T22:50:00.000000+00:00',0,0,NULL,NULL,0,NULL,'[]','[]',NULL,NULL,'fo-20261130T224100Z-a1b2c3');
CREATE TABLE vr_job_seen (
	job VARCHAR(80) NOT NULL, 
	seen VARCHAR(32) NOT NULL, 
	PRIMARY KEY (job)
);
INSERT INTO "vr_job_seen" VALUES('gone01','2026-11-30T22:41:24.471855+00:00');
CREATE TABLE vr_mover (
	id VARCHAR(120) NOT NULL, 
	capacity INTEGER NOT NULL, 
	joined VARCHAR(32) NOT NULL, 
	until VARCHAR(32) NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "vr_mover" VALUES('m1',4,'2026-11-30T18:44:43.074223+00:00','2026-11-30T18:44:48.074223+00:00');
INSERT INTO "vr_mover" VALUES('m2',4,'2026-11-30T22:50:00.000000+00:00','2026-11-30T22:50:30.000000+00:00');
CREATE TABLE vr_mover_info (
	mover VARCHAR(120) NOT NULL, 
	version VARCHAR(60) NOT NULL, 
	lease_s FLOAT NOT NULL, 
	PRIMARY KEY (mover)
);
INSERT INTO "vr_mover_info" VALUES('m2','0.1.0.dev0',30.0);
CREATE TABLE vr_notice (
	receiver VARCHAR(80) NOT NULL, 
	n INTEGER NOT NULL, 
	PRIMARY KEY (receiver, n)
);
INSERT INTO "vr_notice" VALUES('chat',1);
INSERT INTO "vr_notice" VALUES('chat',2);
INSERT INTO "vr_notice" VALUES('chat',3);
INSERT INTO "vr_notice" VALUES('chat',4);
INSERT INTO "vr_notice" VALUES('chat',5);
INSERT INTO "vr_notice" VALUES('chat',7);
INSERT INTO "vr_notice" VALUES('chat',10);
CREATE TABLE vr_point (
	job VARCHAR(80) NOT NULL, 
	id VARCHAR(40) NOT NULL, 
	time VARCHAR(32) NOT NULL, 
	level VARCHAR(20) NOT NULL, 
	description JSON NOT NULL, 
	PRIMARY KEY (job, id)
);
INSERT INTO "vr_point" VALUES('db01','20261130T184331Z-cde2c6','2026-11-30T18:43:34.103251+00:00','crash','{"id": "20261130T184331Z-cde2c6", "job": "db01", "source_vm": "e50d8f54-b9e8-4130-aa22-59b62d0d904c", "source_name": "db01", "time": "2026-11-30T18:43:34.103251+00:00", "level": "crash", "requested": "crash", "snapshot": "snapshot-1024", "excluded": [], "notes": [], "suspicions": [], "flagged": false, "overhead_s": 0.556, "disks": [{"key": 2000, "label": "Hard disk 1", "uuid": "6000C29A-f8bd-c4fe-b565-ac84c157d855", "capacity_bytes": 1048576, "change_id": "d1 aa 22 12 66 09 46 c6-8c df 69 13 1c 65 c5 59/2", "mode": "full", "shipped_bytes": 65536, "root": "87b43763944a25082a336b5b373c00760f886c680fbf76bc05da203da770b64d", "stats": {"changed_bytes": 65536, "redundant_bytes": 0, "zero_bytes": 0, "data_bytes": 65536, "sampled_pieces": 1, "compressibility": 0.01, "high_entropy_share": 0.0, "allocated_bytes": 65536, "seconds": 0.058}}]}');
INSERT INTO "vr_point" VALUES('db01','20261130T184405Z-39b23a','2026-11-30T18:44:06.865445+00:00','crash','{"id": "20261130T184405Z-39b23a", "job": "db01", "source_vm": "e50d8f54-b9e8-4130-aa22-59b62d0d904c", "source_name": "db01", "time": "2026-11-30T18:44:06.865445+00:00", "level": "crash", "requested": "crash", "snapshot": "snapshot-1032", "excluded": [], "notes": [], "suspicions": [], "flagged": false, "overhead_s": 0.218, "disks": [{"key": 2000, "label": "Hard disk 1", "uuid": "6000C29A-f8bd-c4fe-b565-ac84c157d855", "capacity_bytes": 1048576, "change_id": "d1 aa 22 12 66 09 46 c6-8c df 69 13 1c 65 c5 59/3", "mode": "delta", "shipped_bytes": 0, "root": "87b43763944a25082a336b5b373c00760f886c680fbf76bc05da203da770b64d", "stats": {"changed_bytes": 0, "redundant_bytes": 0, "zero_bytes": 0, "data_bytes": 0, "sampled_pieces": 0, "compressibility": 1.0, "high_entropy_share": 0.0, "allocated_bytes": 65536, "seconds": 0.038}}]}');
INSERT INTO "vr_point" VALUES('web01','20261130T184331Z-590b28','2026-11-30T18:43:34.083707+00:00','crash','{"id": "20261130T184331Z-590b28", "job": "web01", "source_vm": "077f3211-febd-4f11-964c-69c7fd30bc72", "source_name": "web01", "time": "2026-11-30T18:43:34.083707+00:00", "level": "crash", "requested": "crash", "snapshot": "snapshot-1026", "excluded": [], "notes": [], "suspicions": [], "flagged": false, "overhead_s": 0.673, "disks": [{"key": 2000, "label": "Hard disk 1", "uuid": "6000C29E-7b44-07db-353b-ec26532f724f", "capacity_bytes": 1048576, "change_id": "48 9f 9c 98 71 13 4d b8-8c 12 c5 3b 06 95 dd c2/2", "mode": "full", "shipped_bytes": 65536, "root": "765830a527bbdbe43a09854850795bc387140e8e079c6342baba37b4f38bd8e3", "stats": {"changed_bytes": 65536, "redundant_bytes": 0, "zero_bytes": 0, "data_bytes": 65536, "sampled_pieces": 1, "compressibility": 0.01, "high_entropy_share": 0.0, "allocated_bytes": 65536, "seconds": 0.071}}]}');
INSERT INTO "vr_point" VALUES('web01','20261130T184405Z-1ff252','2026-11-30T18:44:06.876867+00:00','crash','{"id": "20261130T184405Z-1ff252", "job": "web01", "source_vm": "077f3211-febd-4f11-964c-69c7fd30bc72", "source_name": "web01", "time": "2026-11-30T18:44:06.876867+00:00", "level": "crash", "requested": "crash", "snapshot": "snapshot-1034", "excluded": [], "notes": [], "suspicions": [], "flagged": false, "overhead_s": 0.221, "disks": [{"key": 2000, "label": "Hard disk 1", "uuid": "6000C29E-7b44-07db-353b-ec26532f724f", "capacity_bytes": 1048576, "change_id": "48 9f 9c 98 71 13 4d b8-8c 12 c5 3b 06 95 dd c2/3", "mode": "delta", "shipped_bytes": 0, "root": "765830a527bbdbe43a09854850795bc387140e8e079c6342baba37b4f38bd8e3", "stats": {"changed_bytes": 0, "redundant_bytes": 0, "zero_bytes": 0, "data_bytes": 0, "sampled_pieces": 0, "compressibility": 1.0, "high_entropy_share": 0.0, "allocated_bytes": 65536, "seconds": 0.051}}]}');
CREATE TABLE vr_receiver (
	name VARCHAR(80) NOT NULL, 
	sender VARCHAR(120), 
	PRIMARY KEY (name)
);
INSERT INTO "vr_receiver" VALUES('chat','m1');
CREATE TABLE vr_run (
	id VARCHAR(40) NOT NULL, 
	job VARCHAR(80) NOT NULL, 
	state VARCHAR(12) NOT NULL, 
	mover VARCHAR(120) NOT NULL, 
	holds JSON NOT NULL, 
	epoch INTEGER, 
	due VARCHAR(32) NOT NULL, 
	queued VARCHAR(32) NOT NULL, 
	began VARCHAR(32), 
	ended VARCHAR(32), 
	tries INTEGER NOT NULL, 
	result JSON, 
	error TEXT, kind VARCHAR(12) DEFAULT 'run' NOT NULL, "order" JSON, 
	PRIMARY KEY (id)
);
INSERT INTO "vr_run" VALUES('20261130T184331Z-cde2c6','db01','done','m1','["host:site-a/esx1.site-a.lab", "datastore:site-a/site-a-ds1", "host:site-b/esx1.site-b.lab", "datastore:site-b/site-b-ds1"]',1,'2026-11-30T18:43:31.582673+00:00','2026-11-30T18:43:31.613912+00:00','2026-11-30T18:43:33.468167+00:00','2026-11-30T18:43:34.547955+00:00',1,'{"job": "db01", "point": {"id": "20261130T184331Z-cde2c6", "job": "db01", "source_vm": "e50d8f54-b9e8-4130-aa22-59b62d0d904c", "source_name": "db01", "time": "2026-11-30T18:43:34.103251+00:00", "level": "crash", "requested": "crash", "snapshot": "snapshot-1024", "excluded": [], "notes": [], "suspicions": [], "flagged": false, "overhead_s": 0.556, "disks": [{"key": 2000, "label": "Hard disk 1", "uuid": "6000C29A-f8bd-c4fe-b565-ac84c157d855", "capacity_bytes": 1048576, "change_id": "d1 aa 22 12 66 09 46 c6-8c df 69 13 1c 65 c5 59/2", "mode": "full", "shipped_bytes": 65536, "root": "87b43763944a25082a336b5b373c00760f886c680fbf76bc05da203da770b64d", "stats": {"changed_bytes": 65536, "redundant_bytes": 0, "zero_bytes": 0, "data_bytes": 65536, "sampled_pieces": 1, "compressibility": 0.01, "high_entropy_share": 0.0, "allocated_bytes": 65536, "seconds": 0.058}}]}, "disks": [{"key": 2000, "label": "Hard disk 1", "mode": "full", "reason": "there is no replica yet", "capacity_bytes": 1048576, "allocated_bytes": 65536, "changed_bytes": 65536, "read_bytes": 65536, "redundant_bytes": 0, "zero_bytes": 0, "shipped_bytes": 65536, "audited_bytes": 0, "seconds": 0.007275704999983645, "compressibility": 0.010009765625, "high_entropy_share": 0.0, "retries": 0}], "recovered": [], "removed_points": [], "warnings": ["the guest of db01 (otherGuest64) is neither Windows nor Linux: nothing proves that it quiesces"], "verified": null, "points": 1, "started": "2026-11-30T18:43:33.627628+00:00", "seconds": 0.9014904959999512}',NULL,'run',NULL);
INSERT INTO "vr_run" VALUES('20261130T184331Z-590b28','web01','done','m1','["host:site-a/esx1.site-a.lab", "datastore:site-a/site-a-ds1", "host:site-b/esx1.site-b.lab", "datastore:site-b/site-b-ds1"]',1,'2026-11-30T18:43:31.582673+00:00','2026-11-30T18:43:31.613912+00:00','2026-11-30T18:43:33.436451+00:00','2026-11-30T18:43:34.533574+00:00',1,'{"job": "web01", "point": {"id": "20261130T184331Z-590b28", "job": "web01", "source_vm": "077f3211-febd-4f11-964c-69c7fd30bc72", "source_name": "web01", "time": "2026-11-30T18:43:34.083707+00:00", "level": "crash", "requested": "crash", "snapshot": "snapshot-1026", "excluded": [], "notes": [], "suspicions": [], "flagged": false, "overhead_s": 0.673, "disks": [{"key": 2000, "label": "Hard disk 1", "uuid": "6000C29E-7b44-07db-353b-ec26532f724f", "capacity_bytes": 1048576, "change_id": "48 9f 9c 98 71 13 4d b8-8c 12 c5 3b 06 95 dd c2/2", "mode": "full", "shipped_bytes": 65536, "root": "765830a527bbdbe43a09854850795bc387140e8e079c6342baba37b4f38bd8e3", "stats": {"changed_bytes": 65536, "redundant_bytes": 0, "zero_bytes": 0, "data_bytes": 65536, "sampled_pieces": 1, "compressibility": 0.01, "high_entropy_share": 0.0, "allocated_bytes": 65536, "seconds": 0.071}}]}, "disks": [{"key": 2000, "label": "Hard disk 1", "mode": "full", "reason": "there is no replica yet", "capacity_bytes": 1048576, "allocated_bytes": 65536, "changed_bytes": 65536, "read_bytes": 65536, "redundant_bytes": 0, "zero_bytes": 0, "shipped_bytes": 65536, "audited_bytes": 0, "seconds": 0.006480861000000004, "compressibility": 0.010009765625, "high_entropy_share": 0.0, "retries": 0}], "recovered": [], "removed_points": [], "warnings": ["the guest of web01 (otherGuest64) is neither Windows nor Linux: nothing proves that it quiesces"], "verified": null, "points": 1, "started": "2026-11-30T18:43:33.536455+00:00", "seconds": 0.9878282060000174}',NULL,'run',NULL);
INSERT INTO "vr_run" VALUES('20261130T184331Z-b73a98','gone01','failed','m1','["host:site-b/esx1.site-b.lab", "datastore:site-b/site-b-ds1"]',1,'2026-11-30T18:43:31.582673+00:00','2026-11-30T18:43:31.613912+00:00','2026-11-30T18:43:33.452116+00:00','2026-11-30T18:43:33.588604+00:00',1,'{"error": "VmNotFound", "message": "there is no VM ''gone01'' in 127.0.0.1", "remedy": "Give a name, an inventory path, a moref (vm-12) or an instance UUID that exists.", "retryable": false}','there is no VM ''gone01'' in 127.0.0.1','run',NULL);
INSERT INTO "vr_run" VALUES('20261130T184405Z-39b23a','db01','done','m1','["host:site-a/esx1.site-a.lab", "datastore:site-a/site-a-ds1", "host:site-b/esx1.site-b.lab", "datastore:site-b/site-b-ds1"]',2,'2026-11-30T18:43:35.613912+00:00','2026-11-30T18:44:05.708907+00:00','2026-11-30T18:44:06.737470+00:00','2026-11-30T18:44:07.238411+00:00',1,'{"job": "db01", "point": {"id": "20261130T184405Z-39b23a", "job": "db01", "source_vm": "e50d8f54-b9e8-4130-aa22-59b62d0d904c", "source_name": "db01", "time": "2026-11-30T18:44:06.865445+00:00", "level": "crash", "requested": "crash", "snapshot": "snapshot-1032", "excluded": [], "notes": [], "suspicions": [], "flagged": false, "overhead_s": 0.218, "disks": [{"key": 2000, "label": "Hard disk 1", "uuid": "6000C29A-f8bd-c4fe-b565-ac84c157d855", "capacity_bytes": 1048576, "change_id": "d1 aa 22 12 66 09 46 c6-8c df 69 13 1c 65 c5 59/3", "mode": "delta", "shipped_bytes": 0, "root": "87b43763944a25082a336b5b373c00760f886c680fbf76bc05da203da770b64d", "stats": {"changed_bytes": 0, "redundant_bytes": 0, "zero_bytes": 0, "data_bytes": 0, "sampled_pieces": 0, "compressibility": 1.0, "high_entropy_share": 0.0, "allocated_bytes": 65536, "seconds": 0.038}}]}, "disks": [{"key": 2000, "label": "Hard disk 1", "mode": "delta", "reason": "changed blocks since point 20261130T184331Z-cde2c6 (changeId d1 aa 22 12 66 09 46 c6-8c df 69 13 1c 65 c5 59/2)", "capacity_bytes": 1048576, "allocated_bytes": null, "changed_bytes": 0, "read_bytes": 0, "redundant_bytes": 0, "zero_bytes": 0, "shipped_bytes": 0, "audited_bytes": 65536, "seconds": 0.0029501300000447372, "compressibility": null, "high_entropy_share": null, "retries": 0}], "recovered": [], "removed_points": [], "warnings": ["the guest of db01 (otherGuest64) is neither Windows nor Linux: nothing proves that it quiesces"], "verified": null, "points": 2, "started": "2026-11-30T18:44:06.764358+00:00", "seconds": 0.4699981869999874}',NULL,'run',NULL);
INSERT INTO "vr_run" VALUES('20261130T184405Z-1ff252','web01','done','m1','["host:site-a/esx1.site-a.lab", "datastore:site-a/site-a-ds1", "host:site-b/esx1.site-b.lab", "datastore:site-b/site-b-ds1"]',2,'2026-11-30T18:43:35.613912+00:00','2026-11-30T18:44:05.708907+00:00','2026-11-30T18:44:06.735093+00:00','2026-11-30T18:44:07.271900+00:00',1,'{"job": "web01", "point": {"id": "20261130T184405Z-1ff252", "job": "web01", "source_vm": "077f3211-febd-4f11-964c-69c7fd30bc72", "source_name": "web01", "time": "2026-11-30T18:44:06.876867+00:00", "level": "crash", "requested": "crash", "snapshot": "snapshot-1034", "excluded": [], "notes": [], "suspicions": [], "flagged": false, "overhead_s": 0.221, "disks": [{"key": 2000, "label": "Hard disk 1", "uuid": "6000C29E-7b44-07db-353b-ec26532f724f", "capacity_bytes": 1048576, "change_id": "48 9f 9c 98 71 13 4d b8-8c 12 c5 3b 06 95 dd c2/3", "mode": "delta", "shipped_bytes": 0, "root": "765830a527bbdbe43a09854850795bc387140e8e079c6342baba37b4f38bd8e3", "stats": {"changed_bytes": 0, "redundant_bytes": 0, "zero_bytes": 0, "data_bytes": 0, "sampled_pieces": 0, "compressibility": 1.0, "high_entropy_share": 0.0, "allocated_bytes": 65536, "seconds": 0.051}}]}, "disks": [{"key": 2000, "label": "Hard disk 1", "mode": "delta", "reason": "changed blocks since point 20261130T184331Z-590b28 (changeId 48 9f 9c 98 71 13 4d b8-8c 12 c5 3b 06 95 dd c2/2)", "capacity_bytes": 1048576, "allocated_bytes": null, "changed_bytes": 0, "read_bytes": 0, "redundant_bytes": 0, "zero_bytes": 0, "shipped_bytes": 0, "audited_bytes": 65536, "seconds": 0.003779414999939945, "compressibility": null, "high_entropy_share": null, "retries": 0}], "recovered": [], "removed_points": [], "warnings": ["the guest of web01 (otherGuest64) is neither Windows nor Linux: nothing proves that it quiesces"], "verified": null, "points": 2, "started": "2026-11-30T18:44:06.778727+00:00", "seconds": 0.47810381800002233}',NULL,'run',NULL);
INSERT INTO "vr_run" VALUES('fo-20261130T184408Z-fae130','web01','done','m1','[]',3,'2026-11-30T18:44:08.092011+00:00','2026-11-30T18:44:08.092011+00:00','2026-11-30T18:44:08.906451+00:00','2026-11-30T18:44:09.267862+00:00',1,'{"failover": "fo-20261130T184408Z-fae130", "state": "running", "facts": {"source": "powered off", "off_level": "crash", "use_a": false, "off_since": "2026-11-30T18:44:08.982384+00:00", "point": "20261130T184405Z-1ff252", "level": "crash", "answered": true}, "error": null}',NULL,'failover','{"do": "begin", "who": "root", "commit": false, "choices": {"final_sync": "no", "on_shutdown_timeout": "abort", "shutdown_timeout_s": 600.0, "heartbeat_timeout_s": 300.0, "point": null, "require": "crash", "source_lost": false, "max_downtime_s": null, "disconnect_source_nics": false}}');
INSERT INTO "vr_run" VALUES('fo-20261130T184416Z-dabbf0','db01','running','m1','[]',3,'2026-11-30T18:44:16.557177+00:00','2026-11-30T18:44:16.557177+00:00','2026-11-30T18:44:41.007597+00:00',NULL,1,NULL,NULL,'failover','{"do": "begin", "who": "root", "commit": false, "choices": {"final_sync": "yes", "on_shutdown_timeout": "abort", "shutdown_timeout_s": 600.0, "heartbeat_timeout_s": 300.0, "point": null, "require": "crash", "source_lost": false, "max_downtime_s": null, "disconnect_source_nics": false}}');
INSERT INTO "vr_run" VALUES('20261130T184440Z-b328eb','gone01','failed','m1','["host:site-b/esx1.site-b.lab", "datastore:site-b/site-b-ds1"]',2,'2026-11-30T18:44:33.588604+00:00','2026-11-30T18:44:40.340275+00:00','2026-11-30T18:44:40.913335+00:00','2026-11-30T18:44:40.936299+00:00',1,'{"error": "VmNotFound", "message": "there is no VM ''gone01'' in 127.0.0.1", "remedy": "Give a name, an inventory path, a moref (vm-12) or an instance UUID that exists.", "retryable": false}','there is no VM ''gone01'' in 127.0.0.1','run',NULL);
INSERT INTO "vr_run" VALUES('or-20261130T184443Z-13fbc6','web01','asked','','[]',NULL,'2026-11-30T18:44:43.079073+00:00','2026-11-30T18:44:43.079073+00:00',NULL,NULL,0,NULL,NULL,'failover','{"do": "commit", "who": "alice"}');
CREATE INDEX ix_vr_run_job ON vr_run (job);
CREATE UNIQUE INDEX vr_run_active ON vr_run (job) WHERE state IN ('queued', 'running');
CREATE INDEX ix_vr_audit_time ON vr_audit (time);
CREATE INDEX ix_vr_audit_job ON vr_audit (job);
CREATE INDEX vr_run_failover ON vr_run (queued) WHERE kind = 'failover';
CREATE INDEX vr_run_queued ON vr_run (queued);
CREATE INDEX ix_vr_by_hand_job ON vr_by_hand (job);
CREATE INDEX ix_vr_by_hand_began ON vr_by_hand (began);
CREATE INDEX ix_vr_failover_job ON vr_failover (job);
COMMIT;
