import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import * as errors from '../../errors.js'
import { clientSignal } from '../../http/client-signal.js'
import { etag } from '../../schemas/config.js'
import { Onboard, Resume, Start } from '../../schemas/onboarding.js'

const startErrors = [
  errors.RedirectUriNotAllowed,
  errors.MetaAppNotConfigured,
  errors.SecretUnreadable,
  errors.DatabaseUnavailable,
  errors.ServiceClosing
]
/** The errors of an execution. */
const executionErrors = [
  errors.MetaAppNotConfigured,
  errors.MetaAppRejected,
  errors.MetaCallbackRefused,
  errors.MetaCodeExpired,
  errors.MetaCodeInvalid,
  errors.MetaCodeUsed,
  errors.MetaExchangeUnknown,
  errors.MetaPermissionMissing,
  errors.MetaAccountRequired,
  errors.MetaNumberChanged,
  errors.MetaPhoneChoiceRequired,
  errors.MetaPhoneNotInWaba,
  errors.MetaRateLimited,
  errors.MetaRedirectMismatch,
  errors.MetaRegisterRefused,
  errors.MetaTimeout,
  errors.MetaTokenInvalid,
  errors.MetaUnavailable,
  errors.MetaUnexpectedReply,
  errors.MetaWabaNotAccessible,
  errors.ServiceClosing,
  errors.OnboardingUnderWay,
  errors.CallbackUrlTooLong,
  errors.PhoneNumberTaken,
  errors.OnboardingSuperseded,
  errors.ConfigNotFound,
  errors.SecretUnreadable,
  errors.DatabaseUnavailable
]
const tags = ['onboarding']

/** Connects the tenant's WhatsApp Business Account with a Meta login. */
const onboarding: FastifyPluginAsyncTypebox = async (fastify) => {
  const { onboarding, tenantConfigs } = fastify

  fastify.post('/onboard/whatsapp-client/start', {
    config: { errors: startErrors, audit: { action: 'onboarding.start' } },
    schema: {
      operationId: 'startOnboarding',
      summary: 'Begin a login at Meta',
      tags,
      body: Start,
      response: { 200: Type.Ref('Started') }
    }
  }, async ({ tenant, body }, reply) =>
    await onboarding.start({ tenantId: tenant.id, userId: tenant.userId }, body ?? {}, clientSignal(reply)))

  fastify.post('/onboard/whatsapp-client', {
    config: {
      callsMeta: true,
      idempotent: true,
      errors: [...executionErrors, errors.OauthStateInvalid, errors.RedirectUriNotAllowed],
      audit: { action: 'onboarding.complete' }
    },
    schema: {
      operationId: 'onboardWhatsappClient',
      summary: 'Exchange the code, prove the account and the number, store the credentials, subscribe the app',
      description: 'The same code posted again is answered from the record of the onboarding, ' +
        'with 200 once it is completed; Meta sees a code once.',
      tags,
      body: Onboard,
      response: {
        200: Type.Ref('MaskedConfig', {
          description: 'The tenant had a configuration; it holds the new credentials now',
          headers: { etag }
        }),
        201: Type.Ref('MaskedConfig', {
          description: 'The tenant had no configuration; it was created',
          headers: { etag }
        })
      }
    }
  }, async ({ tenant, body }, reply) => {
    const login = { tenantId: tenant.id, userId: tenant.userId, ...body }
    const { created, config } = await onboarding.complete(login, clientSignal(reply))
    reply.code(created ? 201 : 200).header('etag', config.etag)
    return tenantConfigs.maskedAfterWrite(config)
  })

  fastify.post('/onboard/whatsapp-client/resume', {
    config: {
      callsMeta: true,
      idempotent: true,
      errors: [...executionErrors, errors.OnboardingNotFound],
      audit: { action: 'onboarding.resume' }
    },
    schema: {
      operationId: 'resumeOnboarding',
      summary: 'Go on with the latest onboarding from its first unfinished step, without a new login',
      tags,
      body: Resume,
      response: { 200: Type.Ref('MaskedConfig', { description: 'The onboarding is completed', headers: { etag } }) }
    }
  }, async ({ tenant, body }, reply) => {
    const { config } = await onboarding.resume(tenant.id, body ?? {}, clientSignal(reply))
    reply.header('etag', config.etag)
    return tenantConfigs.maskedAfterWrite(config)
  })

  fastify.get('/onboard/whatsapp-client', {
    config: { errors: [errors.OnboardingNotFound, errors.DatabaseUnavailable] },
    schema: {
      operationId: 'getOnboarding',
      summary: 'Read the latest onboarding, step by step',
      tags,
      response: { 200: Type.Ref('OnboardingRecord') }
    }
  }, async ({ tenant }) => await onboarding.latest(tenant.id))
}

export default onboarding
