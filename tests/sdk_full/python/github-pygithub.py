"""PyGithub: goes on from the addresses in answers, and refuses those of another host."""

import pathlib
import tempfile

from github import Auth, Github

PACKAGE, BASES, WITHOUT = "PyGithub", ("/github", "/github/api/v3"), {}


def use(tour, base):
    github = Github(auth=Auth.Token(tour.key), base_url=tour.http + base, per_page=2)
    tour.read(lambda: github.get_user().login, "octocat")
    tour.read(lambda: github.get_repo("octocat/old").full_name, "octocat/Hello-World")
    repo = github.get_repo("octocat/Hello-World")
    tour.write(lambda: repo.create_issue(title="Fehler: ä").title, "Fehler: ä")
    tour.pages(lambda: [one.number for one in repo.get_issues()], [1, 2, 3])
    if (
        base != BASES[0]
    ):  # there it takes no address that does not begin with its base, and uploads have another host
        return
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "a b.zip")
        path.write_bytes(b"zip")
        tour.upload(lambda: repo.get_release(1).upload_asset(str(path), name="a b.zip").name, "a b.zip")


def refuse(tour, base):
    github = Github(auth=Auth.Token(tour.narrow), base_url=tour.http + base)
    repo = github.get_repo("octocat/Hello-World")
    tour.refused(lambda: repo.create_issue(title="no"), "GithubException")
