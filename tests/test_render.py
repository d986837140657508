from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from provisioner import errors
from provisioner.workspace import blueprint, render

_BRACKETS = {
    "variable_start_string": "[[",
    "variable_end_string": "]]",
    "block_start_string": "[%",
    "block_end_string": "%]",
}
_ORDINARY = "{{cookiecutter.project_slug}}"
_BRACKETED = "[[cookiecutter.project_slug]]"
_CONTEXT = {"project_name": "sales", "project_slug": "sales"}


def _template(
    folder: Path, files: Mapping[str, str | bytes], *, top: str = _ORDINARY, **variables: object
) -> Path:
    """Write a template: its variables and the files of its top folder."""
    declared = {"project_name": "", "project_slug": "", "_name": "", **variables}
    if top == _BRACKETED:
        declared["_jinja2_env_vars"] = _BRACKETS
    (folder / top).mkdir(parents=True)
    (folder / "cookiecutter.json").write_text(json.dumps(declared))
    for path, content in files.items():
        target = folder / top / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def _files(rendering: blueprint.Rendering) -> dict[str, bytes]:
    return {file.path: file.data for file in rendering.files}


@pytest.mark.parametrize(
    ("top", "source"),
    [(_ORDINARY, "{{ cookiecutter._name }}"), (_BRACKETED, "[[ cookiecutter._name ]]")],
)
@pytest.mark.parametrize(
    "hostile",
    [
        "{{ 7*7 }}",
        "[[ 7*7 ]]",
        "{% for i in range(9) %}x{% endfor %}",
        "[% include 'secret' %]",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "[[ cycler.__init__.__globals__.os.popen('id').read() ]]",
        "{# comment",
        "{%",
        "</script>\"'`$(id)\\",
        "ünï — ✓",
    ],
)
def test_hostile_text_appears_literally(
    top: str, source: str, hostile: str, tmp_path: Path
) -> None:
    template = _template(tmp_path / "t", {"README.md": source}, top=top)

    rendering = render.Template(template).render(_CONTEXT, {"name": hostile})

    assert _files(rendering) == {"README.md": hostile.encode()}


def test_hostile_text_in_a_default_is_rendered_once_only(tmp_path: Path) -> None:
    template = _template(
        tmp_path / "t", {"a": "{{ cookiecutter.title }}"}, title="{{ cookiecutter._name }}"
    )

    rendering = render.Template(template).render(_CONTEXT, {"name": "{{ 7*7 }}"})

    assert _files(rendering) == {"a": b"{{ 7*7 }}"}


def test_half_a_surrogate_pair_does_not_stop_a_workspace(tmp_path: Path) -> None:
    template = _template(tmp_path / "t", {"a": "{{ cookiecutter._name }}"})

    rendering = render.Template(template).render(_CONTEXT, {"name": "a\ud800b"})

    assert _files(rendering) == {"a": b"a?b"}


@pytest.mark.parametrize("top", [_ORDINARY, _BRACKETED])
@pytest.mark.parametrize(
    "value",
    ["{{ 7*7 }}", "[[7*7]]", "[%if%]", "{#", "a b", "a\nb", "a'b", 'a"b', "ü", "$HOME", "a;b", "`"],
)
def test_a_rendered_value_that_is_more_than_a_name_is_refused(
    top: str, value: str, tmp_path: Path
) -> None:
    template = _template(tmp_path / "t", {"a": ""}, top=top)

    with pytest.raises(errors.TemplateError, match="more than a plain name") as caught:
        render.Template(template).render({**_CONTEXT, "project_name": value}, {})

    assert value not in str(caught.value)


def test_a_rendered_value_is_checked_against_the_templates_own_delimiters(tmp_path: Path) -> None:
    marks = {**_BRACKETS, "variable_start_string": "@@", "variable_end_string": "@@"}
    template = _template(
        tmp_path / "t", {"a": ""}, top="@@cookiecutter.project_slug@@", _jinja2_env_vars=marks
    )

    with pytest.raises(errors.TemplateError, match="more than a plain name"):
        render.Template(template).render({**_CONTEXT, "project_name": "@@secret@@"}, {})


@pytest.mark.parametrize(
    "value",
    ["http://localhost:9000", "https://s3.eu-west-1.amazonaws.com", "http://[::1]:9000", ""],
)
def test_addresses_are_rendered_as_they_are(value: str, tmp_path: Path) -> None:
    template = _template(tmp_path / "t", {"a": "<{{ cookiecutter.s3_endpoint }}>"})

    rendering = render.Template(template).render({**_CONTEXT, "s3_endpoint": value}, {})

    assert _files(rendering) == {"a": f"<{value}>".encode()}


@pytest.mark.parametrize(
    "key", ["_name", "Name", "extensions", "jinja2_env_vars", "", "a-b", "a.b"]
)
def test_text_cannot_take_the_place_of_a_setting(key: str, tmp_path: Path) -> None:
    template = _template(tmp_path / "t", {"a": ""})

    with pytest.raises(errors.TemplateError, match="not a name for text"):
        render.Template(template).render(_CONTEXT, {key: "x"})


@pytest.mark.parametrize("key", ["_extensions", "__x", "Name", ""])
def test_a_rendered_key_has_a_plain_name(key: str, tmp_path: Path) -> None:
    template = _template(tmp_path / "t", {"a": ""})

    with pytest.raises(errors.TemplateError, match="not a name for a rendered value"):
        render.Template(template).render({key: "x"}, {})


@pytest.mark.parametrize(
    "text", ["../../evil", "/etc/evil", "..", "a/../../b", "a//b", "./a", "a\0b"]
)
def test_a_name_cannot_lead_out_of_the_workspace(text: str, tmp_path: Path) -> None:
    template = _template(tmp_path / "t", {"{{cookiecutter._name}}": "x"})

    with pytest.raises(errors.TemplateError, match="leads out") as caught:
        render.Template(template).render(_CONTEXT, {"name": text})

    assert caught.value.attributes == {"file": "{{cookiecutter._name}}"}


def test_names_may_be_rendered_into_folders_or_to_nothing(tmp_path: Path) -> None:
    template = _template(
        tmp_path / "t",
        {
            "{{cookiecutter.project_name}}.sql": "1",
            "{{cookiecutter.path}}/model.py": "2",
            "{% if cookiecutter.engine == 'trino' %}trino.yaml{% endif %}": "3",
            "{% if cookiecutter.engine == 'trino' %}trino{% endif %}/deep/file": "4",
        },
        path="models/gold",
        engine=["duckdb", "trino"],
    )

    rendering = render.Template(template).render(_CONTEXT, {})

    assert _files(rendering) == {"sales.sql": b"1", "models/gold/model.py": b"2"}
    assert rendering.folders == ("models", "models/gold")


def test_a_choice_is_the_first_unless_it_is_given(tmp_path: Path) -> None:
    template = _template(
        tmp_path / "t", {"a": "{{ cookiecutter.engine }}"}, engine=["duckdb", "trino"]
    )

    chosen = render.Template(template).render({**_CONTEXT, "engine": "trino"}, {})
    default = render.Template(template).render(_CONTEXT, {})

    assert (_files(chosen)["a"], _files(default)["a"]) == (b"trino", b"duckdb")


@pytest.mark.parametrize(
    ("declared", "value"), [(["duckdb", "trino"], "oracle"), (True, "perhaps")]
)
def test_a_choice_that_is_not_offered_is_refused(
    declared: object, value: str, tmp_path: Path
) -> None:
    template = _template(tmp_path / "t", {"a": ""}, engine=declared)

    with pytest.raises(errors.TemplateError) as caught:
        render.Template(template).render({**_CONTEXT, "engine": value}, {})

    attributes = dict(caught.value.attributes)
    assert attributes.pop("choices", "duckdb, trino") == "duckdb, trino"
    assert attributes == {"file": "cookiecutter.json", "key": "engine"}


def test_a_switch_is_true_or_false(tmp_path: Path) -> None:
    template = _template(tmp_path / "t", {"a": "{{ cookiecutter.on is true }}"}, on=False)

    assert _files(render.Template(template).render({"on": "true"}, {})) == {"a": b"True"}


def test_what_the_template_does_not_declare_is_passed_all_the_same(tmp_path: Path) -> None:
    template = _template(
        tmp_path / "t", {"a": "{{ cookiecutter.product_id }} {{ cookiecutter._owners }}"}
    )

    rendering = render.Template(template).render(
        {**_CONTEXT, "product_id": "0d"}, {"owners": "Mary"}
    )

    assert _files(rendering) == {"a": b"0d Mary"}


def test_binaries_copies_line_ends_and_modes_are_kept(tmp_path: Path) -> None:
    binary = bytes(range(256)) * 4
    template = _template(
        tmp_path / "t",
        {
            "logo.png": binary,
            "dos.txt": "{{ cookiecutter.project_name }}\r\nb\r\n",
            "data.csv": "{{ as it is }}",
            "raw/{{ as it is }}.txt": "{{ as it is }}",
            "run.sh": "echo",
        },
        _copy_without_render=["*.csv", "raw"],
    )
    (template / _ORDINARY / "run.sh").chmod(0o775)

    rendering = render.Template(template).render(_CONTEXT, {})

    assert _files(rendering) == {
        "logo.png": binary,
        "dos.txt": b"sales\r\nb\r\n",
        "data.csv": b"{{ as it is }}",
        "raw/{{ as it is }}.txt": b"{{ as it is }}",
        "run.sh": b"echo",
    }
    assert [file.path for file in rendering.files if file.executable] == ["run.sh"]


@pytest.mark.parametrize("top", [_ORDINARY, _BRACKETED])
def test_the_result_is_what_cookiecutter_itself_makes(
    top: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cookiecutter import generate, prompt

    start, end = ("[[ ", " ]]") if top == _BRACKETED else ("{{ ", " }}")
    template = _template(
        tmp_path / "t",
        {
            "README.md": f"# {start}cookiecutter.project_name{end}\n\nüñ\n",
            "config.yaml": f"x: {start}cookiecutter._name | jsonify{end}",
            f"models/{start}cookiecutter.project_slug{end}.sql": "select 1\r\nfrom a\r\n",
            "part.txt": f"{start.strip()}cookiecutter.project_name | slugify{end.strip()}\n\n\n",
            "seeds/raw.csv": "{{ a }},[[ b ]]\n",
            "empty": "",
        },
        top=top,
        _copy_without_render=["*.csv"],
    )
    monkeypatch.chdir(tmp_path)
    context = generate.generate_context(
        str(template / "cookiecutter.json"), extra_context={**_CONTEXT, "_name": "a: b"}
    )
    context["cookiecutter"] = prompt.prompt_for_config(context, no_input=True)
    made = Path(generate.generate_files(template, context, tmp_path / "made", accept_hooks=False))

    rendering = render.Template(template).render(_CONTEXT, {"name": "a: b"})

    theirs = {
        p.relative_to(made).as_posix(): p.read_bytes() for p in made.rglob("*") if p.is_file()
    }
    assert _files(rendering) == theirs


def test_hooks_are_refused(tmp_path: Path) -> None:
    template = _template(tmp_path / "t", {"a": ""})
    (template / "hooks").mkdir()
    (template / "hooks/post_gen_project.py").write_text("raise SystemExit(1)")

    with pytest.raises(errors.TemplateError, match="hooks are not run"):
        render.Template(template).render(_CONTEXT, {})


@pytest.mark.parametrize(
    ("content", "described"),
    [
        ("\n{{ cookiecutter.nmae }}", {"reason": "UndefinedError", "line": 2, "name": "nmae"}),
        ("{{ nothing }}", {"reason": "UndefinedError", "line": 1, "name": "nothing"}),
        ("{{ cookiecutter[cookiecutter._name] }}", {"reason": "UndefinedError", "line": 1}),
        ("a\n\n{{ a b }}", {"reason": "TemplateSyntaxError", "line": 3, "name": "b"}),
        ("{% if %}", {"reason": "TemplateSyntaxError", "line": 1}),
        ("\n\n{{ 1 / 0 }}", {"reason": "ZeroDivisionError", "line": 3}),
        ("{{ cookiecutter._name | int + none }}", {"reason": "TypeError", "line": 1}),
    ],
)
def test_an_error_in_a_file_is_told_by_file_and_line(
    content: str, described: dict[str, object], tmp_path: Path
) -> None:
    template = _template(tmp_path / "t", {"models/a.sql": content})

    with pytest.raises(errors.TemplateError, match="does not render") as caught:
        render.Template(template).render(_CONTEXT, {"name": "PORTAL"})

    assert caught.value.attributes == {"file": "models/a.sql", **described}
    assert "PORTAL" not in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ("{", "not JSON"),
        ("\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no JSON object"),
        ('{"templates": {}}', "template of templates"),
        ('{"a": "{{ cookiecutter.nothing }}"}', "default does not render"),
        ('{"_jinja2_env_vars": {"nonsense": 1}}', "Jinja settings"),
        ('{"_extensions": ["nothing.at.all"]}', "Jinja settings"),
    ],
)
def test_a_wrong_cookiecutter_json_is_told(declared: str, reason: str, tmp_path: Path) -> None:
    template = _template(tmp_path / "t", {"a": ""})
    (template / "cookiecutter.json").write_bytes(declared.encode("latin-1"))

    with pytest.raises(errors.TemplateError, match=reason) as caught:
        render.Template(template).render({}, {})

    assert caught.value.attributes["file"] == "cookiecutter.json"


def test_a_template_without_cookiecutter_json_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.TemplateError, match="no such file"):
        render.Template(tmp_path).render({}, {})
    with pytest.raises(errors.TemplateError, match="no such file"):
        render.Template(tmp_path / "nothing").digest()


@pytest.mark.parametrize("tops", [[], [_ORDINARY, "{{cookiecutter.project_name}}"]])
def test_a_template_has_one_top_folder(tops: list[str], tmp_path: Path) -> None:
    (tmp_path / "cookiecutter.json").write_text("{}")
    for name in tops:
        (tmp_path / name).mkdir()

    with pytest.raises(errors.TemplateError, match="one top folder"):
        render.Template(tmp_path).render({}, {})


@pytest.mark.parametrize(
    "files",
    [
        {"a": "1", "{{ 'a' }}": "2"},
        {"a": "1", "{{ 'a' }}/b": "2"},
        {"{{cookiecutter.path}}": "1", "a/{{ 'b' }}/c": "2"},
    ],
)
def test_two_files_do_not_get_one_name(files: dict[str, str], tmp_path: Path) -> None:
    template = _template(tmp_path / "t", files, path="a/b")

    with pytest.raises(errors.TemplateError, match="one name"):
        render.Template(template).render(_CONTEXT, {})


def test_rendering_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, temporary, here = tmp_path / "home", tmp_path / "tmp", tmp_path / "here"
    for folder in (home, temporary, here):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(here)
    template = _template(tmp_path / "t", {"a": "{{ cookiecutter.project_name }}"})

    render.Template(template).render(_CONTEXT, {})

    assert [list(folder.iterdir()) for folder in (home, temporary, here)] == [[], [], []]
    assert Path.cwd() == here
    assert sorted(p.name for p in template.iterdir()) == ["cookiecutter.json", _ORDINARY]


def test_many_threads_render_at_once(tmp_path: Path) -> None:
    source = "{% for i in range(50) %}{{ cookiecutter.project_name }} {% endfor %}"
    template = render.Template(_template(tmp_path / "t", {"a": source}))
    before = Path.cwd()

    def _render(number: int) -> bool:
        name = f"p{number}"
        rendering = template.render({**_CONTEXT, "project_name": name}, {})
        return _files(rendering) == {"a": f"{name} ".encode() * 50}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(_render, range(200)))
    assert Path.cwd() == before


def test_a_template_that_changes_is_rendered_as_it_is_now(tmp_path: Path) -> None:
    folder = _template(tmp_path / "t", {"a": "first"})
    template = render.Template(folder)
    first, digest = template.render(_CONTEXT, {}), template.digest()

    (folder / _ORDINARY / "a").write_text("other")

    assert _files(first) == {"a": b"first"}
    assert _files(template.render(_CONTEXT, {})) == {"a": b"other"}
    assert template.digest() != digest


def test_the_digest_does_not_depend_on_the_place(tmp_path: Path) -> None:
    folder = _template(tmp_path / "t", {"a": "1", "b/c": "2"})
    shutil.copytree(folder, tmp_path / "copy")

    assert render.digest(folder) == render.digest(tmp_path / "copy")


def _edit(top: Path) -> None:
    (top / "a").write_text("3")


def _make_executable(top: Path) -> None:
    (top / "a").chmod(0o755)


def _rename(top: Path) -> None:
    (top / "a").rename(top / "z")


def _remove(top: Path) -> None:
    (top / "b/c").unlink()


def _redeclare(top: Path) -> None:
    (top.parent / "cookiecutter.json").write_text("{}")


@pytest.mark.parametrize("change", [_edit, _make_executable, _rename, _remove, _redeclare])
def test_the_digest_changes_with_the_template(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = _template(tmp_path / "t", {"a": "1", "b/c": "2"})
    template = render.Template(folder)
    before = template.digest()

    change(folder / _ORDINARY)

    assert template.digest() != before


def test_the_digest_ignores_what_is_no_part_of_the_template(tmp_path: Path) -> None:
    folder = _template(tmp_path / "t", {"a": "1"})
    before = render.digest(folder)

    for name in ("__pycache__", ".git"):
        (folder / name).mkdir()
        (folder / name / "x").write_text("x")
    os.utime(folder / _ORDINARY / "a", (1, 1))

    assert render.digest(folder) == before


def test_what_the_platform_chooses_must_be_the_templates_own(tmp_path: Path) -> None:
    template = render.Template(
        _template(
            tmp_path / "t",
            {"a": "{{ cookiecutter.engine }} {{ cookiecutter.size }}"},
            engine=["duckdb", "trino"],
            size="small",
            nested={"a": "b"},
        )
    )
    chosen = template.render(_CONTEXT, {}, {"engine": "trino", "size": "large"})
    assert _files(chosen)["a"] == b"trino large"

    def refused(**choices: str) -> dict[str, object]:
        with pytest.raises(errors.TemplateError) as caught:
            template.render(_CONTEXT, {}, choices)
        return dict(caught.value.attributes)

    assert refused(engine="oracle")["choices"] == "duckdb, trino"
    assert refused(motor="x")["declared"] == "engine, nested, size"
    for key in ("_version", "project_name", "nested"):
        assert refused(**{key: "x"})["key"] == key
    assert refused(size="{{ 7*7 }}")["key"] == "size"


@pytest.mark.parametrize("name", ["", "2.1-rc+1"])
def test_a_version_may_have_a_name(name: str, tmp_path: Path) -> None:
    assert render.Template(_template(tmp_path / "t", {"a": ""}, _version=name)).name() == name
    assert render.Template(_template(tmp_path / "none", {"a": ""})).name() == ""


@pytest.mark.parametrize("name", [7, "two words", "x" * 41, "[red]", "\x1b[1m"])
def test_a_versions_name_is_short_and_plain(name: object, tmp_path: Path) -> None:
    template = render.Template(_template(tmp_path / "t", {"a": ""}, _version=name))
    with pytest.raises(errors.TemplateError, match="up to 40"):
        template.name()
