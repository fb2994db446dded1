"""githubkit: typed models made from GitHub's description; pages by number."""

from githubkit import GitHub, TokenAuthStrategy
from tour import Aside

PACKAGE, BASES, WITHOUT = "githubkit", ("/github", "/github/api/v3/"), {}
PLACE = {"owner": "octocat", "repo": "Hello-World"}


def client(tour, base, key):
    return GitHub(TokenAuthStrategy(key), base_url=tour.http + base, http_cache=False, auto_retry=False)


def use(tour, base):
    github = client(tour, base, tour.key)
    tour.read(lambda: github.rest.users.get_authenticated().json()["login"], "octocat")
    tour.write(lambda: github.rest.issues.create(**PLACE, title="Fehler: ä").json()["title"], "Fehler: ä")
    tour.pages(
        lambda: [
            one["number"]
            for one in github.rest.paginate(
                github.rest.issues.list_for_repo, **PLACE, per_page=2, map_func=lambda page: page.json()
            )
        ],
        [1, 2, 3],
    )
    tour.upload(lambda: upload(github), "a b.zip")
    tour.read(lambda: github.graphql("{ viewer { login } }"), {"viewer": {"login": "octocat"}})


def upload(github):
    """To api.github.com, where GitHub takes none: the proxy knows its host by the path."""
    fields = {"Content-Type": "application/zip"}
    asked = github.rest.repos.upload_release_asset(
        **PLACE, release_id=1, name="a b.zip", data=b"zip", headers=fields
    )
    return asked.json()["name"]


def refuse(tour, base):
    github = client(tour, base, tour.narrow)
    tour.refused(
        lambda: github.rest.issues.create(**PLACE, title="no"),
        "RequestFailed",
        aside=Aside("`response.text`: its own text is `Request failed`", lambda error: error.response.text),
    )
