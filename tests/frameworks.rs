//! The snippets of docs/migrations.md for Django and Alembic: each is run, run again on a database that has what it makes, and taken
//! back.
use hll_lab::{Cluster, root, skip};
use hll_tests::{number, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter with the packages, where tests/setup could have it.
fn python() -> Option<PathBuf> {
    let python = root().join("target/python/bin/python");
    let there = Command::new(&python).args(["-c", "import django, sqlalchemy, alembic, psycopg"]).output();
    there.is_ok_and(|out| out.status.success()).then_some(python)
}

/// The blocks below a heading of the page.
fn blocks(heading: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/migrations.md")).unwrap();
    let below = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    let below = below.split("\n## ").next().unwrap();
    let mut found = vec![String::new()];
    for line in below.lines() {
        match line.strip_prefix("    ") {
            Some(code) => *found.last_mut().unwrap() += &format!("{code}\n"),
            None if line.is_empty() && !found.last().unwrap().is_empty() => {
                *found.last_mut().unwrap() += "\n"
            }
            None => found.push(String::new()),
        }
    }
    found.retain(|block| !block.trim().is_empty());
    found
}

fn run(python: &Path, folder: &Path, args: &[&str]) {
    let out = Command::new(python).current_dir(folder).args(args).output().unwrap();
    let said = [out.stdout, out.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(out.status.success(), "{args:?}: {} {}", said[0], said[1]);
}

/// A folder of its own, gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("hll-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // In the folder for temporary files; a test that failed says so otherwise.
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ROLLUPS: &str = "SELECT count(*) FROM rollup.definition";
const HOURS: &str = "SELECT coalesce(sum(views), 0)::bigint FROM page_view_1hour_live";

#[test]
fn django_migrates_twice() {
    let Some(python) = python() else { return skip("Django is not there: make setup-test") };
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("shop").unwrap();
    let found = blocks("Django");
    let [migration, model] = found.as_slice() else { panic!("{} blocks", found.len()) };
    let folder = Folder::new("django");
    folder.write(
        "settings.py",
        &format!(
            "SECRET_KEY = 'x'\nUSE_TZ = True\nINSTALLED_APPS = ['shop']\nDEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'\nDATABASES = {{'default': {{'ENGINE': 'django.db.backends.postgresql', 'NAME': 'shop', 'USER': 'postgres', 'HOST': '{}'}}}}\n",
            cluster.socket().display()
        ),
    );
    folder.write("shop/__init__.py", "");
    folder.write("shop/migrations/__init__.py", "");
    folder.write("shop/models.py", &format!("from django.db import models\n\nclass PageView(models.Model):\n    at = models.DateTimeField()\n    site = models.IntegerField()\n\n    class Meta:\n        db_table = 'page_view'\n\n{model}"));
    folder.write("shop/migrations/0001_initial.py", "from django.db import migrations, models\n\nclass Migration(migrations.Migration):\n    initial = True\n    operations = [migrations.CreateModel('PageView', [('id', models.BigAutoField(primary_key=True)), ('at', models.DateTimeField()), ('site', models.IntegerField())], options={'db_table': 'page_view'})]\n");
    folder.write("shop/migrations/0002_page_view_1hour.py", migration);
    let django = |args: &[&str]| {
        run(
            &python,
            &folder.0,
            &[&["-m", "django"], args, &["--settings", "settings", "--pythonpath", "."]].concat(),
        );
    };
    django(&["migrate", "shop"]);
    assert_eq!(number(&mut client, ROLLUPS), 1);
    // By Django itself, which knows nothing of the column that was added.
    let program = "import django; django.setup()
from shop.models import PageView, PageViewHour
from django.utils import timezone
from django.db.models import Sum
[PageView.objects.create(at=timezone.now(), site=n % 2) for n in range(5)]
assert PageViewHour.objects.aggregate(n=Sum('views'))['n'] == 5, 'the live view'";
    let out = Command::new(&python)
        .current_dir(&folder.0)
        .env("DJANGO_SETTINGS_MODULE", "settings")
        .args(["-c", program])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // A server that has lost count runs it once more: what is there stays.
    client.batch_execute("SELECT rollup.run('page_view'); DELETE FROM django_migrations WHERE name = '0002_page_view_1hour'").unwrap();
    django(&["migrate", "shop"]);
    assert_eq!((number(&mut client, ROLLUPS), number(&mut client, HOURS)), (1, 5));
    assert_eq!(text(&mut client, "SELECT keep::text FROM rollup.retention"), "30 days");
    django(&["migrate", "shop", "0001"]);
    assert_eq!(number(&mut client, ROLLUPS), 0);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.retention"), 0);
    django(&["migrate", "shop"]);
    assert_eq!((number(&mut client, ROLLUPS), number(&mut client, HOURS)), (1, 5));
}

#[test]
fn alembic_migrates_twice() {
    let Some(python) = python() else { return skip("Alembic is not there: make setup-test") };
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("shop").unwrap();
    let found = blocks("SQLAlchemy and Alembic");
    let [revision, include] = found.as_slice() else { panic!("{} blocks", found.len()) };
    let folder = Folder::new("alembic");
    folder.write("alembic.ini", &format!("[alembic]\nscript_location = here\nsqlalchemy.url = postgresql+psycopg://postgres@/shop?host={}\n", cluster.socket().display()));
    folder.write("here/script.py.mako", "from alembic import op\nimport sqlalchemy as sa\nrevision = ${repr(up_revision)}\ndown_revision = ${repr(down_revision)}\n\ndef upgrade():\n    ${upgrades if upgrades else 'pass'}\n\ndef downgrade():\n    ${downgrades if downgrades else 'pass'}\n");
    folder.write(
        "here/env.py",
        &format!(
            "from alembic import context\nimport sqlalchemy as sa\n\nmeta = sa.MetaData()\nsa.Table('page_view', meta, sa.Column('at', sa.DateTime(timezone=True), nullable=False), sa.Column('site', sa.Integer))\n\n{include}\n\nengine = sa.create_engine(context.config.get_main_option('sqlalchemy.url'))\nwith engine.connect() as connection:\n    context.configure(connection=connection, target_metadata=meta, include_object=include_object)\n    with context.begin_transaction():\n        context.run_migrations()\n"
        ),
    );
    folder.write("here/versions/1_page_view.py", "from alembic import op\nimport sqlalchemy as sa\nrevision = '1'\ndown_revision = None\n\ndef upgrade():\n    op.create_table('page_view', sa.Column('at', sa.DateTime(timezone=True), nullable=False), sa.Column('site', sa.Integer))\n\ndef downgrade():\n    op.drop_table('page_view')\n");
    folder.write("here/versions/2_page_view_1hour.py", revision);
    let alembic = |args: &[&str]| run(&python, &folder.0, &[&["-m", "alembic"], args].concat());
    alembic(&["upgrade", "head"]);
    client
        .batch_execute("INSERT INTO page_view VALUES (now(), 1), (now(), 2); SELECT rollup.run('page_view')")
        .unwrap();
    alembic(&["stamp", "1"]);
    alembic(&["upgrade", "head"]);
    assert_eq!((number(&mut client, ROLLUPS), number(&mut client, HOURS)), (1, 2));
    // A revision that is generated has nothing of the rollup in it.
    alembic(&["revision", "--autogenerate", "-m", "nothing", "--rev-id", "3"]);
    let generated = fs::read_to_string(folder.0.join("here/versions/3_nothing.py")).unwrap();
    assert!(!generated.contains("op.drop") && !generated.contains("op.create"), "{generated}");
    let program = format!(
        "import sqlalchemy as sa
engine = sa.create_engine('postgresql+psycopg://postgres@/shop?host={}')
hours = sa.Table('page_view_1hour_live', sa.MetaData(), autoload_with=engine)
with engine.connect() as c: assert c.execute(sa.select(sa.func.sum(hours.c.views))).scalar() == 2",
        cluster.socket().display()
    );
    run(&python, &folder.0, &["-c", &program]);
    alembic(&["downgrade", "1"]);
    assert_eq!(number(&mut client, ROLLUPS), 0);
}
