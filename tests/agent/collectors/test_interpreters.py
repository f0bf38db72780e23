import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.interpreters import script_name
from agent.collectors.processes import command_name

SECRET = "hunter2"
INTERPRETERS = [
    "bash",
    "sh",
    "dash",
    "zsh",
    "busybox",
    "python3",
    "python3.11",
    "pypy3",
    "ruby",
    "perl",
    "php",
    "node",
    "nodejs",
    "lua",
    "luajit",
    "java",
    "deno",
    "bun",
    "tclsh",
]
OPTIONS = [
    *[
        "-c",
        "-e",
        "-E",
        "-p",
        "-n",
        "-r",
        "-lc",
        "-ec",
        "-ce",
        "-xec",
        "-ne",
        "-pe",
        "-lne",
        "-ic",
        "-euo",
        "-o",
        "-O",
        "+o",
        "-m",
        "-s",
        "-S",
        "-i",
        "-I",
        "-W",
        "-X",
    ],
    *[
        "--eval",
        "--print",
        "--command",
        "-Command",
        "--rcfile",
        "--init-file",
        "--require",
        "--import",
        "-l",
        "-F",
        "-d",
        "-B",
    ],
    *[
        "-0777ne",
        "--env-file",
        "--inspect",
        "-cp",
        "-jar",
        "-D",
        "--run",
        "--norc",
        "--watch",
        "-opipefail",
        "-f",
        "--",
    ],
]


@pytest.mark.parametrize(
    "line",
    [
        ["bash", "-lc", "PGPASSWORD=hunter2; psql"],
        ["bash", "-lc", "hunter2"],
        ["bash", "-o", "pipefail", "-c", "hunter2"],
        ["bash", "-euo", "pipefail", "-c", "hunter2"],
        ["zsh", "-opipefail", "-c", "hunter2"],
        ["bash", "--rcfile", "/etc/x", "-ic", "hunter2"],
        ["bash", "--unknown", "hunter2"],
        ["sh", "-s", "hunter2"],
        ["sh", "-", "hunter2"],
        ["sh", "TOKEN=hunter2"],
        ["python3", "-Ic", "hunter2"],
        ["python3", "-chunter2"],
        ["python3", "-W", "ignore", "-c", "hunter2"],
        ["perl", "-lne", "hunter2"],
        ["perl", "-0777ne", "hunter2"],
        ["perl", "-i.bak", "-pE", "hunter2"],
        ["ruby", "-rjson", "-ne", "hunter2"],
        ["node", "--eval", "hunter2"],
        ["node", "--eval=hunter2"],
        ["node", "-pe", "hunter2"],
        ["node", "--print", "hunter2"],
        ["php", "-r", "hunter2"],
        ["php", "-B", "hunter2", "-R", "hunter2"],
        ["lua", "-lsocket", "-e", "hunter2"],
        ["bun", "-e", "hunter2"],
        ["java", "-Dtoken=hunter2", "-cp", "/hunter2", "--unknown", "hunter2"],
        ["deno", "https://user:hunter2@host/x.ts"],
        ["python3", "x" * 60 + "hunter2" * 3],
        ["bash", "a\nhunter2"],
        ["bash", "$(hunter2)"],
    ],
)
def test_program_text_is_named_by_its_interpreter_alone(line):
    assert command_name(line[0], line) == line[0]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("bash -eo pipefail /opt/run.sh -c hunter2", "bash:run.sh"),
        ("bash --norc --rcfile /etc/rc ./run.sh", "bash:run.sh"),
        ("bash -- /opt/run.sh", "bash:run.sh"),
        ("python3 -Im agent run", "python3:agent"),
        ("python3 -mhttp.server", "python3:http.server"),
        ("python3 -Wonce -X dev -u app.py hunter2", "python3:app.py"),
        ("perl -w -I lib -MJSON bin/job.pl hunter2", "perl:job.pl"),
        ("ruby -W0 -I lib bin/rails server", "ruby:rails"),
        ("node --max-old-space-size=4096 -r dotenv/config server.js", "node:server.js"),
        ("php -d memory_limit=1G -f artisan queue:work", "php:artisan"),
        ("php artisan queue:work", "php:artisan"),
        ("java -Xmx1g -Da=b --add-opens a/b=ALL -jar /x/app-1.2.jar", "java:app-1.2.jar"),
        ("java -cp a:b org.example.Main", "java:org.example.Main"),
        ("lua -l socket main.lua", "lua:main.lua"),
        ("busybox sh -c hunter2", "busybox:sh"),
        ("deno eval hunter2", "deno:eval"),
    ],
)
def test_a_script_or_module_is_named_behind_options_that_are_known(line, name):
    words = line.split()
    assert command_name(words[0], words) == name


@pytest.mark.parametrize("line", ["awk {print} hunter2", "pwsh -Command hunter2", "gawk hunter2"])
def test_programs_whose_argument_is_text_have_no_argument_in_their_name(line):
    words = line.split()
    assert command_name(words[0], words) == words[0]


def test_a_rewritten_title_lends_no_words_to_a_name_that_the_kernel_cut():
    assert command_name("long-process-na", ["long-process-name token=hunter2"]) == "long-process-na"


TEXTS = st.one_of(
    st.text(max_size=8).map(lambda around: f"{around} {SECRET}"),
    st.sampled_from("=;&|<>$()'\"\n\t`*?{}\\").map(lambda sign: f"A{sign}{SECRET}"),
    st.just(f"--token={SECRET}"),
    st.just(f"-{SECRET}"),
)


@given(
    st.sampled_from(INTERPRETERS),
    st.lists(st.one_of(st.sampled_from(OPTIONS), TEXTS, st.just("plain")), max_size=6),
)
def test_a_secret_in_what_is_no_plain_path_is_never_in_the_name(interpreter, arguments):
    name = command_name(interpreter, [interpreter, *arguments])
    assert SECRET not in name


TEXT_OPTIONS = {
    "bash": "c",
    "sh": "c",
    "dash": "c",
    "zsh": "c",
    "python3": "c",
    "pypy3": "c",
    "perl": "eE",
    "ruby": "e",
    "node": "ep",
    "php": "rBRE",
    "lua": "e",
    "bun": "ep",
}


@given(st.data())
def test_program_text_of_one_word_behind_a_cluster_is_never_in_the_name(data):
    interpreter = data.draw(st.sampled_from(sorted(TEXT_OPTIONS)))
    letters = st.text("abdfghijklnoqstuvwxyzIOMSTUW0123456789", max_size=3)
    letter = data.draw(st.sampled_from(TEXT_OPTIONS[interpreter]))
    # Letters whose value is what follows them in the cluster make the text letter a value.
    cluster = "-" + data.draw(letters.filter(lambda found: not set(found) & set("oIMWXlrdfgStzmC")))
    before = data.draw(st.lists(st.sampled_from(["-x", "-v", "-u", "-w"]), max_size=2))
    arguments = [*before, cluster + letter, SECRET, "x"]
    assert SECRET not in script_name(interpreter, arguments)
