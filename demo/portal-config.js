// What the portal's pages need to know in the demo: they call the address that they came from.
const config = {
  API_BASE_URL: 'http://localhost:8080',
  OIDC_ENABLED: false,
  OIDC_CLIENT_ID: '',
  OIDC_CLIENT_SECRET: '',
  OIDC_AUTHORITY: '',
  OIDC_REDIRECT_URI: '',
  OIDC_POST_LOGOUT_REDIRECT_URI: '',
  THEME_CONFIGURATION: 'datamindedthemeconfig',
  POSTHOG_KEY: '',
  POSTHOG_HOST: '',
  POSTHOG_ENABLED: false,
};
